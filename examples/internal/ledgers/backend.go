package ledgers

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"

	"github.com/klauspost/compress/zstd"
	"github.com/stellar/go-stellar-sdk/ingest/ledgerbackend"
	"github.com/stellar/go-stellar-sdk/xdr"
)

// fromStream yields the ledgers of one of the SDK's streams, proves that each
// is the one that it should be, and gives errors their kind.
//
// A stream that reads ahead fails as soon as one of the ledgers ahead does, with
// good ones before it. Where readsAhead says so, what is left is then read one
// by one, until the ledger that is really at fault.
func fromStream(ctx context.Context, stream ledgerbackend.LedgerStream, r Range, readsAhead bool) iter.Seq2[Ledger, error] {
	return func(yield func(Ledger, error) bool) {
		c := cursor{stream: stream, next: uint64(r.First), yield: yield}
		err := c.run(ctx, r.Last)
		if err != nil && readsAhead && !c.stopped && ctx.Err() == nil {
			for err = nil; err == nil && !c.stopped && c.next <= uint64(r.Last); {
				err = c.run(ctx, uint32(c.next))
			}
		}
		if err != nil && !c.stopped {
			yield(Ledger{}, backendError(ctx, uint32(c.next), err))
		}
	}
}

// cursor is how far a stream has come.
type cursor struct {
	stream  ledgerbackend.LedgerStream
	next    uint64 // the ledger to yield next
	yield   func(Ledger, error) bool
	stopped bool // yield must not be called again
}

// run yields the ledgers from next to last. It returns what the SDK reports.
func (c *cursor) run(ctx context.Context, last uint32) error {
	for raw, err := range c.stream.RawLedgers(ctx, ledgerbackend.BoundedRange(uint32(c.next), last)) {
		if err != nil {
			return err
		}
		l := Ledger{Sequence: uint32(c.next), Raw: raw}
		if err := checkSequence(raw, l.Sequence); err != nil {
			c.yield(Ledger{}, err)
			c.stopped = true
			return nil
		}
		if !c.yield(l, nil) {
			c.stopped = true
			return nil
		}
		c.next++
	}
	return nil
}

// backendError gives err, which the SDK reported about the ledger seq, its kind.
func backendError(ctx context.Context, seq uint32, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause // and not whatever the SDK made of it
	}
	_, missing := errors.AsType[*ledgerbackend.RPCLedgerMissingError](err)
	_, malformed := errors.AsType[*xdr.ViewError](err)
	kind := ErrBackend
	switch {
	case missing || errors.Is(err, os.ErrNotExist):
		kind = ErrNotFound
	case malformed || isDamagedZstd(err):
		kind = ErrCorrupt
	}
	return &Error{Sequence: seq, Kind: kind, Err: err}
}

// isDamagedZstd says whether err is of a file that is no zstd, or no whole one.
func isDamagedZstd(err error) bool {
	for _, damage := range []error{
		zstd.ErrMagicMismatch, zstd.ErrCRCMismatch, zstd.ErrUnexpectedBlockSize, zstd.ErrReservedBlockType,
		zstd.ErrCompressedSizeTooBig, zstd.ErrBlockTooSmall, zstd.ErrFrameSizeExceeded, zstd.ErrFrameSizeMismatch,
		io.ErrUnexpectedEOF, zstd.ErrWindowSizeExceeded, zstd.ErrWindowSizeTooSmall, zstd.ErrUnknownDictionary,
	} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return false
}
