package sink

import (
	"context"
	"errors"
	"maps"
	"os"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// pass reads and writes from the last durable ledger on until the range ends,
// drain is closed, or something fails. Whatever way it ends, every permit is
// released and nothing is left aside.
func (s *Sink) pass(ctx context.Context, drain <-chan struct{}) error {
	w, err := s.newWriter()
	if err != nil {
		return err
	}
	limit := s.cfg.Throttler.Limit().Messages
	queue := make(chan item, max(limit, 1))
	readCtx, stop := context.WithCancel(ctx)
	defer stop()
	var readErr error
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(queue)
		readErr = s.read(readCtx, drain, s.folder.cp.Next, queue)
	})
	// When the reader fails, the writer still makes durable what came whole.
	err = w.run(ctx, drain, queue)
	stop()
	reading.Wait()
	if err == nil {
		err = readErr
	}
	for it := range queue {
		it.release(flowcontrol.Ignored)
	}
	return errors.Join(err, w.abandon())
}

// A writer fills one file after another, on one goroutine.
//
//	queue ──▶ open ──────────▶ file ────────────────▶ durable
//	          the ledger that  whole ledgers, aside   named, counted,
//	          is not complete                         permits released
type writer struct {
	s      *Sink
	cp     Checkpoint // as it will be once the file is committed
	totals *totals

	file  *os.File // nil between files
	to    fileWriter
	first uint32
	torn  bool // the file holds a part of a ledger: it cannot be committed
	open  []item
	held  []item // in the file, not durable
	heldC flowcontrol.Cost
}

func (s *Sink) newWriter() (*writer, error) {
	cp := s.folder.cp
	t, err := newTotals(cp.Totals, cp.ByType)
	if err != nil {
		return nil, err
	}
	return &writer{s: s, cp: cp, totals: t}, nil
}

func (w *writer) run(ctx context.Context, drain <-chan struct{}, queue <-chan item) error {
	flush := time.NewTicker(w.s.cfg.FlushInterval)
	defer flush.Stop()
	for {
		if len(queue) == 0 && w.starving() {
			if err := w.makeRoom(); err != nil {
				return err
			}
		}
		select {
		case it, ok := <-queue:
			if !ok {
				return w.commit()
			}
			w.s.cfg.Delay.Wait(ctx, drain)
			if err := w.write(it); err != nil {
				return err
			}
		case <-flush.C:
			if err := w.commit(); err != nil {
				return err
			}
		case <-w.s.wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// write adds a batch to its ledger, and the ledger to the file once it is
// complete. The file is committed when half of the stage's limit waits for it:
// the other half keeps the reader busy meanwhile.
func (w *writer) write(it item) error {
	w.open = append(w.open, it)
	if !it.info.Last {
		return nil
	}
	if err := w.flushOpen(); err != nil {
		return err
	}
	w.torn = false
	w.cp.Next = it.info.Ledger + 1
	w.cp.Ledgers++
	w.cp.Transactions += int64(it.info.Transactions)
	w.cp.Events, w.cp.ByType = w.totals.events, maps.Clone(w.totals.byType)
	w.publish()
	if limit := w.s.cfg.Throttler.Limit(); half(w.heldC.Messages, limit.Messages) || half(w.heldC.Rows, limit.Rows) || half(w.heldC.Bytes, limit.Bytes) {
		return w.commit()
	}
	return nil
}

// half says whether held is at least half of a limit that is one.
func half(held, limit int64) bool { return limit > 0 && held >= (limit+1)/2 }

// flushOpen writes the batches of the open ledger into the file.
func (w *writer) flushOpen() error {
	for len(w.open) > 0 {
		it := w.open[0]
		if w.file == nil {
			file, err := w.s.folder.create()
			if err != nil {
				return err
			}
			w.file, w.first = file, it.info.Ledger
			if w.to, err = newFileWriter(w.cp.Format, file, w.s.cfg.RowGroupBytes); err != nil {
				return err
			}
		}
		if it.rec.NumRows() > 0 {
			if err := w.to.Write(it.rec); err != nil {
				return err
			}
			if err := w.totals.add(it.rec); err != nil {
				return err
			}
		}
		w.open = w.open[1:]
		w.held = append(w.held, it)
		w.heldC.Messages += it.cost.Messages
		w.heldC.Rows += it.cost.Rows
		w.heldC.Bytes += it.cost.Bytes
	}
	w.open = nil
	return nil
}

// starving says whether the reader waits for room that only the writer can
// make: nothing is queued, so all that is in flight is here.
func (w *writer) starving() bool {
	want := w.s.wanted.Load()
	if want == nil || len(w.held)+len(w.open) == 0 {
		return false
	}
	limit, used := w.s.cfg.Throttler.Limit(), w.s.cfg.Throttler.InFlight()
	full := func(used, want, limit int64) bool { return limit > 0 && used+want > limit }
	return full(used.Messages, want.Messages, limit.Messages) || full(used.Rows, want.Rows, limit.Rows) || full(used.Bytes, want.Bytes, limit.Bytes)
}

// makeRoom commits the complete ledgers. When there is none, one ledger alone
// is larger than the stage: its batches go to the file early and give their
// permits back before they are durable, because waiting would last for ever.
func (w *writer) makeRoom() error {
	if len(w.held) > 0 {
		return w.commit()
	}
	if err := w.flushOpen(); err != nil {
		return err
	}
	w.torn = true
	w.releaseHeld(flowcontrol.Success)
	return nil
}

// commit makes the file durable and gives the permits of its batches back.
func (w *writer) commit() error {
	if w.file == nil || w.torn {
		return nil
	}
	if err := w.to.Close(); err != nil {
		return err
	}
	w.cp.Totals = w.totals.snapshot()
	if err := w.s.folder.commit(w.file, ledgers.Range{First: w.first, Last: w.cp.Next - 1}, w.cp); err != nil {
		return err
	}
	w.cp = w.s.folder.cp
	w.file, w.to = nil, nil
	w.s.seconds.Store(new(time.Since(w.s.began).Seconds()))
	if len(w.held) > 0 {
		w.s.measure(w.held[0])
	}
	w.releaseHeld(flowcontrol.Success)
	w.publish()
	return nil
}

func (w *writer) releaseHeld(o flowcontrol.Outcome) {
	for _, it := range w.held {
		it.release(o)
	}
	w.held, w.heldC = nil, flowcontrol.Cost{}
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

// abandon gives up what is not durable.
func (w *writer) abandon() error {
	for _, it := range w.open {
		it.release(flowcontrol.Ignored)
	}
	w.releaseHeld(flowcontrol.Ignored)
	w.open = nil
	var err error
	if w.file != nil {
		_ = w.file.Close() // it is removed
		err = w.s.folder.discard()
	}
	w.s.status.Store(statusOf(w.s.folder.cp))
	return err
}
