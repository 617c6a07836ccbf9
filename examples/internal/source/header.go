package source

import (
	"encoding/hex"
	"fmt"
	"time"

	"github.com/stellar/go-stellar-sdk/ingest"
	"github.com/stellar/go-stellar-sdk/xdr"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// header is what the source tells of a ledger beside its XDR.
type header struct {
	sequence                             uint32
	closedAt                             time.Time
	hash, previous                       string
	protocol                             uint32
	transactions, successful, operations uint32
}

// readHeader reads the header and counts the transactions through the SDK's
// views, which walk the XDR in place and decode nothing else of it.
// One that was set aside has nothing but its sequence.
func readHeader(l ledgers.Ledger) (header, error) {
	if l.SetAside {
		return header{sequence: l.Sequence}, nil
	}
	h, err := parseHeader(l.Raw)
	if err == nil && h.sequence != l.Sequence {
		err = fmt.Errorf("its header says %d", h.sequence)
	}
	if err != nil {
		return header{}, &ledgers.Error{Sequence: l.Sequence, Kind: ledgers.ErrCorrupt, Err: err}
	}
	return h, nil
}

func parseHeader(raw []byte) (header, error) {
	view := xdr.LedgerCloseMetaView(raw)
	entry, err := view.LedgerHeader()
	if err != nil {
		return header{}, err
	}
	h, err := xdr.Try(func() header {
		inner := entry.MustHeader()
		return header{
			sequence: inner.MustLedgerSeq().MustValue(),
			closedAt: time.Unix(int64(inner.MustScpValue().MustCloseTime().MustValue()), 0).UTC(),
			hash:     hex.EncodeToString(entry.MustHash().MustRaw()),
			previous: hex.EncodeToString(inner.MustPreviousLedgerHash().MustRaw()),
			protocol: inner.MustLedgerVersion().MustValue(),
		}
	})
	if err != nil {
		return header{}, err
	}
	return h, h.count(view)
}

func (h *header) count(view xdr.LedgerCloseMetaView) error {
	txs, err := ingest.ExtractLedgerTxParts(view)
	if err != nil {
		return err
	}
	h.transactions = uint32(len(txs))
	return xdr.TryVoid(func() {
		for _, tx := range txs {
			ok, ops := outcome(tx.Result.MustResult().MustResult())
			if ok {
				h.successful++
			}
			h.operations += uint32(ops)
		}
	})
}

// outcome says whether a transaction was successful and how many operations
// have a result. It panics with the views' error, which TryVoid recovers.
func outcome(result xdr.TransactionResultResultView) (successful bool, operations int) {
	switch result.MustCode() {
	case xdr.TransactionResultCodeTxSuccess:
		return true, result.MustResults().MustCount()
	case xdr.TransactionResultCodeTxFailed:
		return false, result.MustResults().MustCount()
	case xdr.TransactionResultCodeTxFeeBumpInnerSuccess:
		return true, result.MustInnerResultPair().MustResult().MustResult().MustResults().MustCount()
	case xdr.TransactionResultCodeTxFeeBumpInnerFailed:
		inner := result.MustInnerResultPair().MustResult().MustResult()
		if inner.MustCode() != xdr.TransactionResultCodeTxFailed {
			return false, 0 // it was refused before its operations ran
		}
		return false, inner.MustResults().MustCount()
	default:
		return false, 0
	}
}
