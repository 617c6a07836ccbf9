package events

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/stellar/go-stellar-sdk/processors/token_transfer"
	"github.com/stellar/go-stellar-sdk/xdr"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// ErrExtract is what every [*Error] matches.
var ErrExtract = errors.New("events cannot be extracted")

// Error is a ledger whose events could not be extracted.
type Error struct {
	Ledger uint32
	Err    error
}

// Error names the ledger.
func (e *Error) Error() string {
	return fmt.Sprintf("ledger %d: %v: %v", e.Ledger, ErrExtract, e.Err)
}

// Unwrap returns ErrExtract and the cause.
func (e *Error) Unwrap() []error { return []error{ErrExtract, e.Err} }

// Extracted is what one ledger holds.
type Extracted struct {
	Sequence     uint32
	ClosedAt     time.Time
	Transactions int
	Events       []Event // in the order in which they happened
}

// Extractor extracts events by the SDK's processor.
type Extractor struct {
	processor *token_transfer.EventsProcessor
}

// NewExtractor returns an extractor for ledgers of the network with this
// passphrase.
func NewExtractor(passphrase string) *Extractor {
	return &Extractor{processor: token_transfer.NewEventsProcessor(passphrase)}
}

// Extract decodes the XDR of the ledger sequence and returns its events. It
// keeps nothing of raw.
func (x *Extractor) Extract(sequence uint32, raw []byte) (out Extracted, err error) {
	// The SDK's accessors panic on meta of an unexpected shape, which comes from
	// outside; one bad ledger must not end the process.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the SDK: %v", p)
		}
		if err != nil {
			out, err = Extracted{}, &Error{Ledger: sequence, Err: err}
		}
	}()
	var lcm xdr.LedgerCloseMeta
	if err := xdr.SafeUnmarshal(raw, &lcm); err != nil {
		return Extracted{}, err
	}
	if got := lcm.LedgerSequence(); got != sequence {
		return Extracted{}, fmt.Errorf("its header says %d", got)
	}
	found, err := x.processor.EventsFromLedger(lcm)
	if err != nil {
		return Extracted{}, err
	}
	out = Extracted{
		Sequence:     sequence,
		ClosedAt:     lcm.ClosedAt(),
		Transactions: lcm.CountTransactions(),
		Events:       make([]Event, len(found)),
	}
	// Events of one operation need not be neighbours: a refund follows the
	// transaction's operations, or even all transactions.
	type operation struct{ tx, op uint32 }
	next := make(map[operation]uint32, len(found))
	for i, event := range found {
		e, err := fromSDK(event)
		if err != nil {
			return Extracted{}, err
		}
		op := operation{e.TxIndex, e.OpIndex}
		e.Ordinal = next[op]
		next[op]++
		e.ID = EventID(e.LedgerSequence, e.TxIndex, e.OpIndex, e.Ordinal)
		out.Events[i] = e
	}
	return out, nil
}

// Direct extracts the ledgers of r straight from src, in order, on the calling
// goroutine. It yields an error at most once, as its last step.
func Direct(ctx context.Context, src ledgers.Source, r ledgers.Range) iter.Seq2[Extracted, error] {
	return func(yield func(Extracted, error) bool) {
		x := NewExtractor(src.Info().Passphrase)
		for l, err := range src.Ledgers(ctx, r) {
			var out Extracted
			if err == nil {
				out, err = x.Extract(l.Sequence, l.Raw)
			}
			if !yield(out, err) || err != nil {
				return
			}
		}
	}
}
