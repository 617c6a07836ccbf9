package processor

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// rowBytes is what a row costs beside its XDR.
const rowBytes = 256

// assembler turns batches into jobs, joins the parts of big ledgers, and proves
// that the ledgers come without a gap.
type assembler struct {
	*pipe
	next uint64 // the ledger that must come next
	big  *job   // a ledger of which parts are missing
	part uint32 // the part of it that must come next
	raw  []byte // the parts of it so far
}

// add takes one batch, of which the source read the first ledger at entered. It
// blocks while the stage is full.
func (a *assembler) add(ctx context.Context, batch arrow.RecordBatch, entered time.Time) error {
	rows, err := source.Rows(batch)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return nil
	}
	a.count.batchesIn.Add(1)
	if rows[0].Parts > 1 {
		return a.addPart(ctx, rows[0], entered)
	}
	if a.big != nil {
		return fmt.Errorf("the source sent ledger %d before part %d of ledger %d", rows[0].Sequence, a.part, a.next)
	}
	j := &job{
		batch:   batch,
		read:    time.Now(),
		entered: entered,
		done:    make(chan struct{}),
		ledgers: make([]ledgers.Ledger, len(rows)),
	}
	cost := flowcontrol.Cost{Messages: 1, Rows: int64(len(rows))}
	for i, row := range rows {
		if err := a.check(row); err != nil {
			return err
		}
		a.next++
		j.ledgers[i] = ledgers.Ledger{Sequence: row.Sequence, Raw: row.XDR}
		cost.Bytes += int64(len(row.XDR)) + rowBytes
	}
	if j.permit, err = a.acquire(ctx, cost); err != nil {
		return fmt.Errorf("ledger %d: %w", j.ledgers[0].Sequence, err)
	}
	a.count.bytesIn.Add(cost.Bytes)
	batch.Retain()
	return a.enqueue(ctx, j)
}

// addPart takes one part of a big ledger. The first part acquires for all: two
// streams that each hold half of a ledger and wait for room for the other half
// would wait for each other for ever.
func (a *assembler) addPart(ctx context.Context, row source.Row, entered time.Time) error {
	if err := a.check(row); err != nil {
		return err
	}
	if a.big == nil {
		j := &job{read: time.Now(), entered: entered, done: make(chan struct{})}
		cost := flowcontrol.Cost{Messages: 1, Rows: 1, Bytes: row.Total + rowBytes}
		var err error
		if j.permit, err = a.acquire(ctx, cost); err != nil {
			return fmt.Errorf("ledger %d: %w", row.Sequence, err)
		}
		a.big, a.part, a.raw = j, 0, make([]byte, 0, row.Total)
		a.count.bytesIn.Add(cost.Bytes)
	}
	last := row.Part == row.Parts-1
	size := int64(len(a.raw) + len(row.XDR))
	if row.Part != a.part || size > row.Total || last != (size == row.Total) {
		return fmt.Errorf("ledger %d: the source sent part %d of %d, %d of %d bytes, where part %d was expected",
			row.Sequence, row.Part, row.Parts, size, row.Total, a.part)
	}
	a.raw = append(a.raw, row.XDR...)
	a.part++
	if !last {
		return nil
	}
	j := a.big
	j.ledgers = []ledgers.Ledger{{Sequence: row.Sequence, Raw: a.raw}}
	a.big, a.raw = nil, nil
	a.next++
	return a.enqueue(ctx, j)
}

// acquire waits for room in the stream's share and then in the stage, however
// long. Neither sees a deadline: a throttler may reject early what has one,
// which is right for a request and wrong for a stream, which would rather be
// slow than broken. A stream that holds its share waits outside of the stage's
// queue, where it would stand in the way of others.
func (a *assembler) acquire(ctx context.Context, cost flowcontrol.Cost) (p permit, err error) {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if a.share != nil {
		p.share, err = a.share.Acquire(patient, cost)
	}
	if err == nil {
		p.stage, err = a.stage.Acquire(patient, cost)
	}
	if err != nil {
		p.Release(flowcontrol.Ignored)
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	return p, err
}

// check proves that the row is of the ledger that must come next.
func (a *assembler) check(row source.Row) error {
	if uint64(row.Sequence) != a.next || a.next > uint64(a.r.Last) {
		return fmt.Errorf("the source sent ledger %d where ledger %d of %v was expected", row.Sequence, a.next, a.r)
	}
	if row.Total > a.cfg.MaxLedgerBytes || row.Total < 0 {
		return fmt.Errorf("ledger %d: %d bytes of XDR, want at most %d", row.Sequence, row.Total, a.cfg.MaxLedgerBytes)
	}
	return nil
}

func (a *assembler) enqueue(ctx context.Context, j *job) error {
	err := a.put(ctx, j)
	if err != nil {
		j.finish()
		j.permit.Release(flowcontrol.Ignored)
	}
	return err
}

// end proves that the range is complete.
func (a *assembler) end() error {
	a.drop()
	if a.next <= uint64(a.r.Last) {
		return fmt.Errorf("the source ended before ledger %d of %v", a.next, a.r)
	}
	return nil
}

// drop gives back a ledger of which parts are missing.
func (a *assembler) drop() {
	if a.big != nil {
		a.big.permit.Release(flowcontrol.Ignored)
		a.big = nil
	}
}
