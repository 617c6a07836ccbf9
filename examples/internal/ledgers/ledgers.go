package ledgers

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/stellar/go-stellar-sdk/xdr"
)

// Range is a range of ledger sequences. Both ends belong to it.
type Range struct {
	First, Last uint32
}

// Len returns how many ledgers are in r. It is 0 when Last lies before First,
// and for the zero Range, which is no range: there is no ledger 0.
func (r Range) Len() uint64 {
	if r == (Range{}) || r.Last < r.First {
		return 0
	}
	return uint64(r.Last) - uint64(r.First) + 1
}

// Contains says whether every ledger of o is in r.
func (r Range) Contains(o Range) bool {
	return r.First <= o.First && o.Last <= r.Last && o.Len() > 0
}

// String renders r as first-last.
func (r Range) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

// Ledger is one closed ledger.
type Ledger struct {
	Sequence uint32
	// Raw is the XDR of the ledger's LedgerCloseMeta. It is borrowed: valid
	// until the loop that it came from takes its next step. Copy it to keep it.
	Raw []byte
	// SetAside says that the ledger is damaged and was set aside: it has no Raw.
	SetAside bool
}

// Info says what a source is, for people and for the programs that decode its
// ledgers.
type Info struct {
	Kind       string // "sample", "datalake" or "rpc"
	Passphrase string // of the network that the ledgers belong to
	Note       string // one sentence for the log, empty when there is nothing to say
}

// Source is where ledgers come from.
type Source interface {
	// Info describes the source. It never fails and never blocks.
	Info() Info

	// Bounds returns the ledgers that the source offers. A source that grows
	// returns those that it offers now.
	Bounds(ctx context.Context) (Range, error)

	// Ledgers yields the ledgers of r in order. It yields an error at most
	// once, as its last step: nothing is ever left out silently.
	Ledgers(ctx context.Context, r Range) iter.Seq2[Ledger, error]
}

// Sentinels that errors of this package match.
var (
	// ErrNotFound means that the source does not have the ledger.
	ErrNotFound = errors.New("ledger not found")
	// ErrCorrupt means that the source returned bytes that are not the ledger.
	ErrCorrupt = errors.New("ledger corrupt")
	// ErrBackend means that what the source reads from failed: later it may work.
	ErrBackend = errors.New("ledger backend failed")
)

// Error is a failure about one ledger.
type Error struct {
	Sequence uint32
	Kind     error // ErrNotFound, ErrCorrupt or ErrBackend
	Err      error // the cause
}

// Error names the ledger first.
func (e *Error) Error() string { return fmt.Sprintf("ledger %d: %v: %v", e.Sequence, e.Kind, e.Err) }

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error { return []error{e.Kind, e.Err} }

func notFound(seq uint32, format string, args ...any) error {
	return &Error{Sequence: seq, Kind: ErrNotFound, Err: fmt.Errorf(format, args...)}
}

func corrupt(seq uint32, err error) error {
	return &Error{Sequence: seq, Kind: ErrCorrupt, Err: err}
}

// failed yields err and nothing else.
func failed(err error) iter.Seq2[Ledger, error] {
	return func(yield func(Ledger, error) bool) { yield(Ledger{}, err) }
}

// CheckBounds returns an error that names the first ledger of r that is not in
// bounds, and nil when all are.
func CheckBounds(r, bounds Range) error {
	switch {
	case r.Len() == 0:
		return fmt.Errorf("ledgers: empty range %v", r)
	case r.First < bounds.First || r.First > bounds.Last:
		return notFound(r.First, "the source has %v", bounds)
	case r.Last > bounds.Last:
		return notFound(bounds.Last+1, "the source has %v", bounds)
	}
	return nil
}

// checkSequence proves that raw is the ledger seq by reading its header.
func checkSequence(raw []byte, seq uint32) error {
	got, err := xdr.LedgerCloseMetaView(raw).LedgerSequence()
	if err != nil {
		return corrupt(seq, err)
	}
	if got != seq {
		return corrupt(seq, fmt.Errorf("its header says %d", got))
	}
	return nil
}
