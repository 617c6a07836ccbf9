package processor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// job is what one permit stands for: a batch of whole ledgers, or one big
// ledger that came in several batches.
type job struct {
	ledgers []ledgers.Ledger
	batch   arrow.RecordBatch // that the ledgers' bytes belong to; nil when they are their own
	permit  permit
	read    time.Time
	entered time.Time // the pipeline, at the source; zero is unknown

	// Set by the worker before it closes done.
	done chan struct{}
	out  []events.Extracted // of the ledgers before the one that err is about
	err  error
}

// finish ends the extraction: nothing refers to the batch any more.
func (j *job) finish() {
	if j.batch != nil {
		j.batch.Release()
		j.batch = nil
	}
	j.ledgers = nil
	close(j.done)
}

// pipe is one DoGet. The reader owns both channels and closes them; a job is in
// both or in none. The workers finish every job that is in work, and the writer,
// which is the goroutine of DoGet, releases the permit of every job in ordered.
type pipe struct {
	*Server
	r       ledgers.Range
	share   *flowcontrol.Throttler // of the stage; nil is all of it
	ordered chan *job
	work    chan *job
	readErr error // set before ordered is closed

	// Set before the first job.
	extractor *extract.Extractor
	from      events.Origin
}

// run serves one range and returns when all of its goroutines ended.
func (s *Server) run(r ledgers.Range, stream flight.FlightService_DoGetServer) error {
	share, err := s.newShare()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	p := &pipe{
		Server:  s,
		r:       r,
		share:   share,
		ordered: make(chan *job, s.cfg.QueueBatches),
		work:    make(chan *job, s.cfg.QueueBatches),
	}
	var running sync.WaitGroup
	running.Go(func() {
		defer close(p.work)
		defer close(p.ordered)
		p.readErr = p.read(ctx)
	})
	for range s.cfg.Workers {
		running.Go(func() { p.extract(ctx) })
	}

	// A send that its reader does not take ends only with the stream, after this
	// handler has returned. Then its goroutine gives back the one job that it has.
	written := make(chan error, 1)
	go func() { written <- p.write(ctx, stream, watching(s.cfg.StallTimeout, cancel, errReaderStalled)) }()
	select {
	case err = <-written:
	case <-ctx.Done():
		if err = stalled(ctx, nil); err == nil {
			err = <-written
		}
	}
	cancel(nil) // ends the RPC to the source, too
	for j := range p.ordered {
		p.drop(j)
	}
	running.Wait()
	return err
}

// drop gives back what a job holds that will not be written.
func (p *pipe) drop(j *job) {
	p.count.queued.Add(-1)
	j.permit.Release(flowcontrol.Ignored)
}

// read turns the source's batches into jobs until the range is complete.
func (p *pipe) read(ctx context.Context) error {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // releasing the reader does not end the RPC
	watch := watching(p.cfg.StallTimeout, cancel, errSourceStalled)
	watch.start()
	defer watch.stop()
	ticket := ledgers.Ticket{Flight: ledgers.FlightName, Range: p.r}
	get, err := p.source.DoGet(ctx, &flight.Ticket{Ticket: ticket.Marshal()})
	if err != nil {
		return fmt.Errorf("asking the source for ledgers %v: %w", p.r, stalled(ctx, err))
	}
	in, err := flight.NewRecordReader(get, ipc.WithAllocator(p.cfg.Allocator))
	if err != nil {
		return fmt.Errorf("asking the source for ledgers %v: %w", p.r, stalled(ctx, err))
	}
	defer in.Release()
	passphrase, err := source.CheckSchema(in.Schema())
	if err != nil {
		return err
	}
	p.extractor, p.from = extract.New(passphrase), events.OriginOf(in.Schema())
	p.extractor.Poisoned = p.cfg.Poisoned

	asm := assembler{pipe: p, next: uint64(p.r.First)}
	for {
		watch.start()
		batch, err := in.Read()
		watch.stop()
		if errors.Is(err, io.EOF) {
			return asm.end()
		}
		if err != nil {
			asm.drop()
			return fmt.Errorf("reading ledger %d from the source: %w", asm.next, stalled(ctx, err))
		}
		if err := asm.add(outer, batch, source.ReadTime(in.LatestAppMetadata())); err != nil {
			asm.drop()
			return err
		}
	}
}

// put queues a job. When it fails the job is in no queue, and still the
// caller's.
func (p *pipe) put(ctx context.Context, j *job) error {
	// ordered first: its writer releases the permit. Both queues are equally
	// long and work is emptied first, so that work has room when ordered had.
	select {
	case p.ordered <- j:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	p.count.queued.Add(1)
	select {
	case p.work <- j:
	case <-ctx.Done():
		j.err = context.Cause(ctx)
		j.finish()
	}
	return nil
}

// extract is a worker: it finishes every job of the queue, in whatever order.
func (p *pipe) extract(ctx context.Context) {
	for j := range p.work {
		select {
		case p.cpu <- struct{}{}:
			p.extractJob(ctx, j)
			<-p.cpu
		case <-ctx.Done():
			j.err = context.Cause(ctx)
		}
		j.finish()
	}
}

func (p *pipe) extractJob(ctx context.Context, j *job) {
	j.out = make([]events.Extracted, 0, len(j.ledgers))
	for _, l := range j.ledgers {
		if j.err = context.Cause(ctx); j.err != nil {
			return
		}
		var out events.Extracted
		if out, j.err = p.extractor.Extract(l.Sequence, l.Raw); j.err != nil {
			return
		}
		j.out = append(j.out, out)
	}
}
