package sink

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink/failpoint"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// pass reads and writes from the writer's next ledger on until the range ends,
// drain is closed, or something fails. Whatever way it ends, the permits of
// what is not in the file are released.
func (s *Sink) pass(ctx context.Context, drain <-chan struct{}, w *writer) error {
	limit := s.cfg.Throttler.Limit().Messages
	queue := make(chan item, max(limit, 1))
	readCtx, stop := context.WithCancel(ctx)
	defer stop()
	var readErr error
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		readErr = s.read(readCtx, drain, w.cp.Next, queue)
	})
	// When the reader fails, the writer still writes what came whole.
	err := w.run(ctx, drain, queue)
	stop()
	reading.Wait()
	for it := range queue {
		it.release(flowcontrol.Ignored)
	}
	w.dropOpen()
	if err == nil {
		err = readErr
	}
	return err
}

// A writer fills one file after another, on one goroutine.
//
//	queue ──▶ open ──────────▶ file ───────────────▶ durable
//	          the ledger that  whole ledgers, aside,  named and counted
//	          is not complete  permits released
//
// The file is as large as it should be, whatever the stage may hold: a batch
// that is in the file is no longer in flight.
type writer struct {
	s      *Sink
	cp     Checkpoint // as it will be once the file is committed
	totals *totals
	open   []item

	file   *output // nil between files
	to     fileWriter
	first  uint32
	opened time.Time
	age    *time.Timer // of the file
	torn   bool        // the file holds a part of a ledger, or failed: it cannot be committed
}

func (s *Sink) newWriter() (*writer, error) {
	w := &writer{s: s, age: time.NewTimer(s.cfg.FileAge)}
	return w, w.reset()
}

// reset begins anew behind what is durable.
func (w *writer) reset() (err error) {
	w.cp = w.s.folder.cp
	w.file, w.torn = nil, false
	w.totals, err = newTotals(w.cp.Totals, w.cp.ByType)
	return err
}

func (w *writer) run(ctx context.Context, drain <-chan struct{}, queue <-chan item) error {
	for {
		if len(queue) == 0 && w.starving() {
			if err := w.makeRoom(); err != nil {
				return err
			}
		}
		select {
		case it, ok := <-queue:
			if !ok {
				return nil
			}
			w.s.cfg.Delay.Wait(ctx, drain)
			if err := w.write(it); err != nil {
				return err
			}
		case <-w.age.C:
			if w.due() {
				if err := w.commit(); err != nil {
					return err
				}
			}
		case <-w.s.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// write adds a batch to its ledger, and the ledger to the file once it is
// complete.
func (w *writer) write(it item) error {
	w.open = append(w.open, it)
	if !it.info.Last {
		return nil
	}
	w.s.measure(w.open[0])
	if err := w.flushOpen(); err != nil {
		return err
	}
	w.torn = false
	w.cp.Next = it.info.Ledger + 1
	w.cp.Ledgers++
	w.cp.Transactions += int64(it.info.Transactions)
	w.cp.Events, w.cp.ByType = w.totals.events, maps.Clone(w.totals.byType)
	w.publish()
	if w.due() {
		return w.commit()
	}
	return nil
}

// due says whether the file is large or old enough.
func (w *writer) due() bool {
	return w.file != nil && (w.file.bytes >= w.s.cfg.FileBytes || time.Since(w.opened) >= w.s.cfg.FileAge)
}

// flushOpen writes the batches of the open ledger into the file.
func (w *writer) flushOpen() error {
	for len(w.open) > 0 {
		it := w.open[0]
		if err := w.put(it); err != nil {
			w.torn = true
			return err
		}
		w.open = w.open[1:]
		it.release(flowcontrol.Success)
	}
	w.open = nil
	return nil
}

// put writes a batch into the file, which it creates where there is none.
func (w *writer) put(it item) (err error) {
	if err := failpoint.Reach(failpoint.Write); err != nil {
		return err
	}
	if w.file == nil {
		if w.file, err = w.s.folder.create(); err != nil {
			return err
		}
		w.first, w.opened = it.info.Ledger, time.Now()
		w.age.Reset(w.s.cfg.FileAge)
		if w.to, err = newFileWriter(w.cp.Format, w.file, w.s.cfg.RowGroupBytes); err != nil {
			return err
		}
	}
	if it.rec.NumRows() == 0 {
		return nil
	}
	if err := w.to.Write(it.rec); err != nil {
		return err
	}
	return w.totals.add(it.rec)
}

// starving says whether the reader waits for room that only the writer can
// make: nothing is queued, so all that is in flight is here.
func (w *writer) starving() bool {
	want := w.s.wanted.Load()
	if want == nil || len(w.open) == 0 {
		return false
	}
	limit, used := w.s.cfg.Throttler.Limit(), w.s.cfg.Throttler.InFlight()
	full := func(used, want, limit int64) bool { return limit > 0 && used+want > limit }
	return full(used.Messages, want.Messages, limit.Messages) || full(used.Rows, want.Rows, limit.Rows) ||
		full(used.Bytes, want.Bytes, limit.Bytes)
}

// makeRoom writes a part of a ledger that alone is larger than the stage,
// because waiting for its end would last for ever. What was whole before it is
// committed first: a file with a part of a ledger is lost if its stream breaks.
func (w *writer) makeRoom() error {
	if err := w.commit(); err != nil {
		return err
	}
	w.torn = true
	return w.flushOpen()
}

// commit makes the file durable.
func (w *writer) commit() error {
	if w.file == nil || w.torn {
		return nil
	}
	w.torn = true // until it has gone well
	if err := w.to.Close(); err != nil {
		return err
	}
	w.cp.Totals = w.totals.snapshot()
	if err := w.s.folder.commit(w.file, ledgers.Range{First: w.first, Last: w.cp.Next - 1}, w.cp); err != nil {
		return err
	}
	w.file, w.torn = nil, false
	w.cp = w.s.folder.cp
	w.s.seconds.Store(new(time.Since(w.s.began).Seconds()))
	w.publish()
	return nil
}

// publish shows how far the writer is. The totals are shown with the durable
// state only: a snapshot of each ledger would cost more than the ledger.
func (w *writer) publish() {
	durable := w.s.folder.cp
	st := statusOf(w.cp)
	st.Next, st.Done = durable.Next, durable.Done()
	w.s.status.Store(st)
	w.s.totals.Store(&durable.Totals)
}

// dropOpen gives up the ledger that is not complete.
func (w *writer) dropOpen() {
	for _, it := range w.open {
		it.release(flowcontrol.Ignored)
	}
	w.open = nil
}

// rewind makes the writer ready for another pass: a file with a part of a
// ledger is given up, every other one is continued.
func (w *writer) rewind() error {
	if !w.torn {
		return nil
	}
	if err := w.removeFile(); err != nil {
		return err
	}
	return w.reset()
}

// abandon gives up what is not durable.
func (w *writer) abandon() error {
	w.dropOpen()
	w.age.Stop()
	err := w.removeFile()
	w.s.status.Store(statusOf(w.s.folder.cp))
	return err
}

// removeFile removes the unfinished file. The checkpoint aside, if there is
// one, stays: the file may have its name already, and the next sink needs the
// one to count the other.
func (w *writer) removeFile() error {
	if w.file == nil {
		return nil
	}
	_ = w.file.file.Close() // it is removed
	err := os.Remove(w.file.file.Name())
	w.file = nil
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
