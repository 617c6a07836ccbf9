package processor

import (
	"context"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// write sends the jobs' events in the order in which the jobs were read. It
// returns the first error of any of the stages, in the order of the ledgers.
func (p *pipe) write(ctx context.Context, stream flight.FlightService_DoGetServer, watch *watch) error {
	defer watch.stop()
	out := &writer{Server: p.Server, watch: watch, builder: events.NewBuilder(p.cfg.Allocator)}
	defer out.builder.Release()
	for j := range p.ordered {
		if out.flight == nil { // now the origin is known
			out.flight = flight.NewRecordWriter(stream, ipc.WithSchema(p.from.Schema()), ipc.WithAllocator(p.cfg.Allocator))
		}
		if err := out.job(ctx, j); err != nil {
			p.drop(j)
			return err
		}
		p.count.queued.Add(-1)
		p.count.finished.Add(1)
		p.count.nanos.Add(int64(time.Since(j.read)))
		j.permit.Release(flowcontrol.Success)
	}
	if p.readErr != nil {
		return p.readErr
	}
	if out.flight == nil {
		return nil // the range was cancelled before its first ledger
	}
	// Not deferred: closing writes the schema when nothing was written yet, and
	// an error must come without any message before it.
	return out.flight.Close()
}

// writer cuts events into batches.
type writer struct {
	*Server
	watch   *watch // of the reader
	builder *events.Builder
	flight  *flight.Writer
}

// job waits for the job's events and writes them.
func (w *writer) job(ctx context.Context, j *job) error {
	select {
	case <-j.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for i := range j.out {
		if err := w.ledger(&j.out[i], j.entered); err != nil {
			return err
		}
	}
	return j.err
}

func (w *writer) ledger(x *events.Extracted, entered time.Time) error {
	info := events.BatchInfo{Ledger: x.Sequence, Transactions: x.Transactions, Events: len(x.Events)}
	if !entered.IsZero() {
		info.Entered = entered.UnixNano()
	}
	for i := range x.Events {
		if w.builder.Rows() == w.cfg.BatchRows || w.builder.Bytes() >= w.cfg.BatchBytes {
			if err := w.flush(info); err != nil {
				return err
			}
		}
		if err := w.builder.Append(&x.Events[i]); err != nil {
			return &events.Error{Ledger: x.Sequence, Err: err}
		}
	}
	info.Last = true
	if err := w.flush(info); err != nil {
		return err
	}
	w.count.ledgers.Add(1)
	w.count.transactions.Add(int64(x.Transactions))
	w.count.events.Add(int64(len(x.Events)))
	w.count.lastLedger.Store(x.Sequence)
	return nil
}

// flush sends a batch, an empty one too. It returns when the transport has
// taken it.
func (w *writer) flush(info events.BatchInfo) error {
	size := w.builder.Bytes()
	rec := w.builder.NewRecordBatch()
	defer rec.Release()
	w.watch.start()
	defer w.watch.stop()
	if err := w.flight.WriteWithAppMetadata(rec, info.Marshal()); err != nil {
		return err
	}
	w.count.batchesOut.Add(1)
	w.count.bytesOut.Add(int64(size))
	return nil
}
