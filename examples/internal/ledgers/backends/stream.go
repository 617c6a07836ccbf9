package backends

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/stellar/go-stellar-sdk/xdr"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// NoEnd is the last ledger of a source that follows a live network.
const NoEnd uint32 = math.MaxUint32

type stream = iter.Seq2[ledgers.Ledger, error]

func failed(err error) stream {
	return func(yield func(ledgers.Ledger, error) bool) { yield(ledgers.Ledger{}, err) }
}

func corrupt(seq uint32, format string, args ...any) error {
	return &ledgers.Error{Sequence: seq, Kind: ledgers.ErrCorrupt, Err: fmt.Errorf(format, args...)}
}

func notFound(seq uint32, format string, args ...any) error {
	return &ledgers.Error{Sequence: seq, Kind: ledgers.ErrNotFound, Err: fmt.Errorf(format, args...)}
}

// backend gives an error about the ledger seq its kind, unless it has one, or
// the context's end caused it.
func backend(ctx context.Context, seq uint32, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if _, ok := errors.AsType[*ledgers.Error](err); ok {
		return err
	}
	return &ledgers.Error{Sequence: seq, Kind: ledgers.ErrBackend, Err: err}
}

// clamp returns what is there of the configured range, and an error that says so
// when nothing is, or is ever going to be.
func clamp(start, end uint32, has ledgers.Range, follow bool) (ledgers.Range, error) {
	switch {
	case end != 0 && end < has.First:
		return ledgers.Range{}, notFound(end, "the configured end lies before the oldest ledger that is there, %d", has.First)
	case start > has.Last && !follow:
		return ledgers.Range{}, notFound(start, "the configured start lies after the latest ledger that is there, %d",
			has.Last)
	case end == 0:
		end = NoEnd
	}
	r := ledgers.Range{First: max(start, has.First), Last: end}
	if !follow {
		r.Last = min(r.Last, has.Last)
	}
	return r, nil
}

// follow yields the ledgers of r as far as they are there, and waits at the tip
// for the next ones. read yields ledgers that are there.
func follow(ctx context.Context, r ledgers.Range, poll time.Duration, tip func(context.Context) (uint32, error),
	read func(context.Context, ledgers.Range) stream,
) stream {
	return func(yield func(ledgers.Ledger, error) bool) {
		// Wide arithmetic: the range may end at the largest sequence.
		for next := uint64(r.First); next <= uint64(r.Last); {
			latest, err := tip(ctx)
			if err != nil {
				yield(ledgers.Ledger{}, backend(ctx, uint32(next), err))
				return
			}
			if uint64(latest) < next {
				select {
				case <-time.After(poll):
				case <-ctx.Done():
					yield(ledgers.Ledger{}, context.Cause(ctx))
					return
				}
				continue
			}
			part := ledgers.Range{First: uint32(next), Last: min(latest, r.Last)}
			for l, err := range read(ctx, part) {
				if err != nil {
					yield(ledgers.Ledger{}, backend(ctx, uint32(next), err))
					return
				}
				if !yield(l, nil) {
					return
				}
				next++
			}
		}
	}
}

// chained proves that every ledger is the one that it should be and names the
// hash of the one before it as its parent.
func chained(first uint32, in stream) stream {
	return func(yield func(ledgers.Ledger, error) bool) {
		next := uint64(first)
		var parent xdr.Hash
		for l, err := range in {
			var own, previous xdr.Hash
			if err == nil {
				own, previous, err = identify(l.Raw, uint32(next))
			}
			if err == nil && next > uint64(first) && previous != parent {
				err = corrupt(uint32(next), "broken chain of hashes: its parent is %x…, and ledger %d is %x…", previous[:8],
					next-1, parent[:8])
			}
			if err != nil {
				yield(ledgers.Ledger{}, err)
				return
			}
			if !yield(l, nil) {
				return
			}
			parent = own
			next++
		}
	}
}

// identify reads the hash of a ledger and its parent's.
func identify(raw []byte, seq uint32) (own, previous xdr.Hash, err error) {
	entry, err := xdr.LedgerCloseMetaView(raw).LedgerHeader()
	if err != nil {
		return own, previous, corrupt(seq, "%w", err)
	}
	got := uint32(0)
	err = xdr.TryVoid(func() {
		header := entry.MustHeader()
		got = header.MustLedgerSeq().MustValue()
		copy(own[:], entry.MustHash().MustRaw())
		copy(previous[:], header.MustPreviousLedgerHash().MustRaw())
	})
	if err == nil && got != seq {
		err = fmt.Errorf("its header says %d", got)
	}
	if err != nil {
		err = corrupt(seq, "%w", err)
	}
	return own, previous, err
}
