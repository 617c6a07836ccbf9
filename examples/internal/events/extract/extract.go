// Package extract turns ledgers into token-transfer events by the Stellar SDK's
// token_transfer processor, field by field; nothing is parsed by hand. It stands
// apart from package events because the SDK links its clients of history archives
// and data lakes with it: a program that only reads events does not.
//
// # Concurrency
//
// An [Extractor] is safe for concurrent use.
//
// # Errors
//
// A ledger that does not decode, or of which the SDK's processor reports an
// error or panics, is an [*events.Error] that names the ledger and matches
// [events.ErrExtract]. No event and no ledger is ever skipped.
//
// # Testing
//
// [Direct] runs the extraction without Flight in between: it is what a
// pipeline's output is compared with.
package extract

import (
	"context"
	"fmt"
	"iter"

	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
	"github.com/stellar/go-stellar-sdk/xdr"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// Extractor extracts events by the SDK's processor.
type Extractor struct {
	processor *token_transfer.EventsProcessor

	// Poisoned, if not nil, takes ledgers whose events cannot be extracted. Set it
	// before the first call.
	Poisoned Poisoned
}

// Poisoned takes a ledger whose events cannot be extracted. It is one without
// events then, unless SetAside returns an error.
type Poisoned interface {
	SetAside(ledger uint32, raw []byte, cause error) error
}

// New returns an extractor for ledgers of the network with this
// passphrase.
func New(passphrase string) *Extractor {
	return &Extractor{processor: token_transfer.NewEventsProcessor(passphrase)}
}

// Extract decodes the XDR of the ledger sequence and returns its events. It
// keeps nothing of raw.
func (x *Extractor) Extract(sequence uint32, raw []byte) (out events.Extracted, err error) {
	// The SDK's accessors panic on meta of an unexpected shape, which comes from
	// outside; one bad ledger must not end the process.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the SDK: %v", p)
		}
		if err != nil {
			out, err = x.poisoned(sequence, raw, &events.Error{Ledger: sequence, Err: err})
		}
	}()
	var lcm xdr.LedgerCloseMeta
	if err := xdr.SafeUnmarshal(raw, &lcm); err != nil {
		return events.Extracted{}, err
	}
	if got := lcm.LedgerSequence(); got != sequence {
		return events.Extracted{}, fmt.Errorf("its header says %d", got)
	}
	found, err := x.processor.EventsFromLedger(lcm)
	if err != nil {
		return events.Extracted{}, err
	}
	out = events.Extracted{
		Sequence:     sequence,
		ClosedAt:     lcm.ClosedAt(),
		Transactions: lcm.CountTransactions(),
		Events:       make([]events.Event, len(found)),
	}
	// Events of one operation need not be neighbours: a refund follows the
	// transaction's operations, or even all transactions.
	type operation struct{ tx, op uint32 }
	next := make(map[operation]uint32, len(found))
	for i, event := range found {
		e, err := fromSDK(event)
		if err != nil {
			return events.Extracted{}, err
		}
		op := operation{e.TxIndex, e.OpIndex}
		e.Ordinal = next[op]
		next[op]++
		e.ID = events.EventID(e.LedgerSequence, e.TxIndex, e.OpIndex, e.Ordinal)
		out.Events[i] = e
	}
	return out, nil
}

func (x *Extractor) poisoned(sequence uint32, raw []byte, err error) (events.Extracted, error) {
	if x.Poisoned == nil {
		return events.Extracted{}, err
	}
	if err := x.Poisoned.SetAside(sequence, raw, err); err != nil {
		return events.Extracted{}, err
	}
	return events.Extracted{Sequence: sequence}, nil
}

// Direct extracts the ledgers of r straight from src, in order, on the calling
// goroutine. It yields an error at most once, as its last step. A source that is
// Poisoned, too, sets ledgers aside.
func Direct(ctx context.Context, src ledgers.Source, r ledgers.Range) iter.Seq2[events.Extracted, error] {
	return func(yield func(events.Extracted, error) bool) {
		x := New(src.Info().Passphrase)
		x.Poisoned, _ = src.(Poisoned)
		for l, err := range src.Ledgers(ctx, r) {
			var out events.Extracted
			if err == nil {
				out, err = x.Extract(l.Sequence, l.Raw)
			}
			if !yield(out, err) || err != nil {
				return
			}
		}
	}
}
