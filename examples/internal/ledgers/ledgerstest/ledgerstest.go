// Package ledgerstest has ledger sources that misbehave on purpose, for tests
// of what reads ledgers.
//
// # Concurrency
//
// Every source here is safe for concurrent use.
//
// # Errors
//
// The sources fail exactly as their names say.
//
// # Testing
//
// It is for tests only.
package ledgerstest

import (
	"bytes"
	"context"
	"iter"
	"testing"
	"time"

	"github.com/stellar/go-stellar-sdk/xdr"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// Sample returns a sample of n ledgers.
func Sample(tb testing.TB, n uint32) *ledgers.Sample {
	tb.Helper()
	src, err := ledgers.NewSample(n)
	if err != nil {
		tb.Fatal(err)
	}
	return src
}

// Changes passes every ledger of Source through Change, which returns what is
// yielded in its place. It may keep the ledger: its bytes are a copy.
type Changes struct {
	ledgers.Source
	Change func(ledgers.Ledger) (ledgers.Ledger, error)
}

// Ledgers yields what Change returns, and ends at its first error.
func (c *Changes) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		for l, err := range c.Source.Ledgers(ctx, r) {
			if err == nil {
				l.Raw = bytes.Clone(l.Raw)
				l, err = c.Change(l)
			}
			if !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// FailsAt fails with err instead of yielding the ledger seq.
func FailsAt(src ledgers.Source, seq uint32, err error) ledgers.Source {
	return &Changes{src, func(l ledgers.Ledger) (ledgers.Ledger, error) {
		if l.Sequence == seq {
			return ledgers.Ledger{}, err
		}
		return l, nil
	}}
}

// CutAt yields only the first size bytes of the ledger seq, all but the last
// -size when size is negative.
func CutAt(src ledgers.Source, seq uint32, size int) ledgers.Source {
	return &Changes{src, func(l ledgers.Ledger) (ledgers.Ledger, error) {
		if l.Sequence == seq && size < 0 {
			l.Raw = l.Raw[:len(l.Raw)+size]
		} else if l.Sequence == seq {
			l.Raw = l.Raw[:size]
		}
		return l, nil
	}}
}

// MislabelledAt says of the ledger seq that it is the next one.
func MislabelledAt(src ledgers.Source, seq uint32) ledgers.Source {
	return &Changes{src, func(l ledgers.Ledger) (ledgers.Ledger, error) {
		if l.Sequence == seq {
			l.Sequence++
		}
		return l, nil
	}}
}

// Slow waits before every ledger, as a source does that waits for ledgers to
// close. It is meant for a synctest bubble.
func Slow(src ledgers.Source, wait time.Duration) ledgers.Source { return &slow{src, wait} }

type slow struct {
	ledgers.Source
	wait time.Duration
}

func (s *slow) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		for l, err := range s.Source.Ledgers(ctx, r) {
			select {
			case <-time.After(s.wait):
			case <-ctx.Done():
				yield(ledgers.Ledger{}, context.Cause(ctx))
				return
			}
			if !yield(l, err) {
				return
			}
		}
	}
}

// Ends yields only the ledgers before seq and then ends without an error, which
// no source may do.
func Ends(src ledgers.Source, seq uint32) ledgers.Source { return &ends{src, seq} }

type ends struct {
	ledgers.Source
	seq uint32
}

func (e *ends) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		for l, err := range e.Source.Ledgers(ctx, r) {
			if l.Sequence >= e.seq || !yield(l, err) {
				return
			}
		}
	}
}

// GrownAt makes the ledger seq at least size bytes long. It stays a valid
// ledger with the same events: what grows is its list of evicted keys.
func GrownAt(src ledgers.Source, seq uint32, size int) ledgers.Source {
	return &Changes{src, func(l ledgers.Ledger) (ledgers.Ledger, error) {
		if l.Sequence == seq {
			raw, err := grow(l.Raw, size)
			return ledgers.Ledger{Sequence: seq, Raw: raw}, err
		}
		return l, nil
	}}
}

func grow(raw []byte, size int) ([]byte, error) {
	var lcm xdr.LedgerCloseMeta
	if err := xdr.SafeUnmarshal(raw, &lcm); err != nil {
		return nil, err
	}
	const step = 32 << 10
	for have := len(raw); have < size; have += step {
		data := xdr.ScBytes(bytes.Repeat([]byte{byte(have >> 15)}, step))
		lcm.V1.EvictedKeys = append(lcm.V1.EvictedKeys, xdr.LedgerKey{
			Type: xdr.LedgerEntryTypeContractData,
			ContractData: &xdr.LedgerKeyContractData{
				Contract:   xdr.ScAddress{Type: xdr.ScAddressTypeScAddressTypeContract, ContractId: &xdr.ContractId{}},
				Key:        xdr.ScVal{Type: xdr.ScValTypeScvBytes, Bytes: &data},
				Durability: xdr.ContractDataDurabilityTemporary,
			},
		})
	}
	return lcm.MarshalBinary()
}
