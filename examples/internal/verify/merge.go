package verify

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// merge walks the rows of all files by ledger. Files are opened when their
// first ledger is due: of a clean run one at a time, and all that overlap where
// something went wrong.
type merge struct {
	ctx     context.Context
	waiting []sink.File // in the order of their first ledgers
	open    []*cursor
}

// A cursor stands on a row of one file.
type cursor struct {
	path string
	row  events.Event
	next func() (events.Event, error, bool)
	stop func()
}

func newMerge(ctx context.Context, files []sink.File) *merge {
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b sink.File) int { return int(int64(a.Range.First) - int64(b.Range.First)) })
	return &merge{ctx: ctx, waiting: files}
}

// ledger passes every row of the ledger to f, from whichever files they are in.
func (m *merge) ledger(sequence uint32, f func(events.Event)) error {
	for len(m.waiting) > 0 && m.waiting[0].Range.First <= sequence {
		c := &cursor{path: m.waiting[0].Path}
		c.next, c.stop = iter.Pull2(Rows(m.ctx, m.waiting[0]))
		m.waiting = m.waiting[1:]
		m.open = append(m.open, c)
		if _, err := m.advance(c); err != nil {
			return err
		}
	}
	for _, c := range slices.Clone(m.open) {
		for c.row.LedgerSequence <= sequence {
			if c.row.LedgerSequence < sequence {
				return fmt.Errorf("verify: %s: ledger %d after ledger %d", c.path, c.row.LedgerSequence, sequence)
			}
			f(c.row)
			if more, err := m.advance(c); err != nil {
				return err
			} else if !more {
				break
			}
		}
	}
	return nil
}

// advance moves c to its next row, or closes it at its end.
func (m *merge) advance(c *cursor) (bool, error) {
	row, err, ok := c.next()
	if err != nil {
		return false, err
	}
	if !ok {
		c.stop()
		c.row.LedgerSequence = math.MaxUint32
		m.open = slices.DeleteFunc(m.open, func(o *cursor) bool { return o == c })
		return false, nil
	}
	c.row = row
	return true, nil
}

// rest counts the rows that no asked-for ledger had.
func (m *merge) rest() (n int64, err error) {
	for _, f := range m.waiting {
		for _, err := range Rows(m.ctx, f) {
			if err != nil {
				return n, err
			}
			n++
		}
	}
	for _, c := range slices.Clone(m.open) {
		for more := true; more; n++ {
			if more, err = m.advance(c); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (m *merge) close() {
	for _, c := range m.open {
		c.stop()
	}
}
