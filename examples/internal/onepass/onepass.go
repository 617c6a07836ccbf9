// Package onepass does the pipeline's work without a pipeline: ledgers are
// extracted by a number of workers in one process and go, in order, through the
// same builder into the same kind of file. It is what the pipeline's speed is
// measured against.
//
// # Concurrency
//
// Run uses a goroutine for the reader and one for each worker, and all of them
// have ended when it returns.
//
// # Errors
//
// The first failure ends Run. The file is incomplete then.
package onepass

import (
	"bytes"
	"context"
	"io"
	"sync"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// Totals are what was done.
type Totals struct{ Ledgers, Transactions, Events int }

// A job is one ledger on its way; done has room for the one result.
type job struct {
	sequence uint32
	raw      []byte
	done     chan result
}

type result struct {
	events.Extracted
	err error
}

// Run reads the ledgers r of src, extracts them by so many workers, and writes
// their events to w as Parquet.
func Run(ctx context.Context, src ledgers.Source, r ledgers.Range, workers int, w io.Writer) (Totals, error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	work, order := make(chan *job), make(chan *job, 2*workers)
	running.Go(func() {
		defer close(work)
		defer close(order)
		for l, err := range src.Ledgers(ctx, r) {
			j := &job{sequence: l.Sequence, raw: bytes.Clone(l.Raw), done: make(chan result, 1)}
			select {
			case order <- j:
			case <-ctx.Done():
				return
			}
			if err != nil {
				j.done <- result{err: err}
				return
			}
			select {
			case work <- j:
			case <-ctx.Done():
				return
			}
		}
	})
	x := extract.New(src.Info().Passphrase)
	for range workers {
		running.Go(func() {
			for j := range work {
				out, err := x.Extract(j.sequence, j.raw)
				j.done <- result{out, err}
			}
		})
	}
	return write(order, w)
}

func write(order <-chan *job, w io.Writer) (t Totals, err error) {
	file, err := sink.NewParquetWriter(w, sink.DefaultRowGroupBytes)
	if err != nil {
		return t, err
	}
	builder := events.NewBuilder(nil)
	defer builder.Release()
	for j := range order {
		out := <-j.done
		if out.err != nil {
			return t, out.err
		}
		for i := range out.Events {
			if err := builder.Append(&out.Events[i]); err != nil {
				return t, err
			}
		}
		rec := builder.NewRecordBatch()
		err := file.Write(rec)
		rec.Release()
		if err != nil {
			return t, err
		}
		t.Ledgers++
		t.Transactions += out.Transactions
		t.Events += len(out.Events)
	}
	return t, file.Close()
}
