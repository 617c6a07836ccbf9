package sink

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/util"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// read fetches the ledgers from next on and puts their batches into queue, each
// with its permit. While the stage is full it reads nothing, and HTTP/2 flow
// control holds the processor. Once drain is closed it ends with the ledger
// that it is in.
func (s *Sink) read(ctx context.Context, drain <-chan struct{}, next uint32, queue chan<- item) error {
	streamCtx, hangUp := context.WithCancelCause(ctx)
	defer hangUp(nil)
	// The watch runs while the processor is waited for, not while the stage is.
	watch := time.AfterFunc(s.stallTimeout(), func() { hangUp(errStalled) })
	defer watch.Stop()
	var between atomic.Bool // between two ledgers: nothing is lost by hanging up
	between.Store(true)
	draining := func() bool {
		select {
		case <-drain:
			return true
		default:
			return false
		}
	}
	go func() {
		select {
		case <-drain:
			if between.Load() {
				hangUp(nil) // the next ledger may be far away
			}
		case <-streamCtx.Done():
		}
	}()

	ticket := ledgers.Ticket{Flight: events.FlightName, Range: ledgers.Range{First: next, Last: s.last}}
	reader, err := s.open(streamCtx, ticket)
	if err != nil {
		if draining() {
			return nil
		}
		return broken(streamCtx, err)
	}
	defer reader.Release()

	check := sequence{next: next}
	for reader.Next() {
		watch.Stop()
		rec := reader.RecordBatch()
		info, err := events.ParseBatchInfo(reader.LatestAppMetadata())
		if err != nil {
			return err
		}
		if err := check.accept(info, rec); err != nil {
			return err
		}
		between.Store(info.Last)
		if err := s.put(ctx, queue, rec, info); err != nil {
			return err
		}
		if info.Last && (draining() || check.next > s.last) {
			return nil
		}
		s.trouble.Store(nil)
		watch.Reset(s.stallTimeout())
	}
	switch err := reader.Err(); {
	case draining():
		return nil
	case err != nil:
		return broken(streamCtx, err)
	default:
		return fmt.Errorf("%w: ledger %d of %d", errBroken, check.next, s.last)
	}
}

// broken is why the stream of ctx ended with err.
func broken(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errStalled) {
		return errStalled
	}
	return err
}

func (s *Sink) stallTimeout() time.Duration {
	if s.cfg.StallTimeout < 0 {
		return math.MaxInt64
	}
	return s.cfg.StallTimeout
}

func (s *Sink) open(ctx context.Context, ticket ledgers.Ticket) (*flight.Reader, error) {
	stream, err := s.cfg.Client.DoGet(ctx, &flight.Ticket{Ticket: ticket.Marshal()})
	if err != nil {
		return nil, err
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		return nil, err
	}
	if err := events.CheckSchema(reader.Schema()); err != nil {
		reader.Release()
		return nil, err
	}
	held, from := s.origin, events.OriginOf(reader.Schema())
	if differ(held.Network, from.Network) || differ(held.Source, from.Source) {
		reader.Release()
		return nil, fmt.Errorf("the processor sends ledgers of %+v, the folder holds those of %+v", from, held)
	}
	return reader, nil
}

// put waits for room in the stage, then queues the batch. The queue has a place
// for every permit, so only the permit is waited for.
func (s *Sink) put(ctx context.Context, queue chan<- item, rec arrow.RecordBatch, info events.BatchInfo) error {
	cost := flowcontrol.Cost{Messages: 1, Rows: rec.NumRows(), Bytes: util.TotalRecordSize(rec)}
	s.wanted.Store(&cost)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	permit, err := s.cfg.Throttler.Acquire(ctx, cost)
	s.wanted.Store(nil)
	if err != nil {
		return err
	}
	rec.Retain()
	it := item{rec, info, cost, permit, time.Now()}
	select {
	case queue <- it:
		return nil
	case <-ctx.Done():
		it.release(flowcontrol.Ignored)
		return ctx.Err()
	}
}

// sequence proves that no ledger and no row is missing from a stream.
type sequence struct {
	next uint32 // the ledger that must come
	rows int    // of it so far
}

func (q *sequence) accept(info events.BatchInfo, rec arrow.RecordBatch) error {
	if info.Ledger != q.next {
		return fmt.Errorf("the stream goes on with ledger %d, want %d", info.Ledger, q.next)
	}
	q.rows += int(rec.NumRows())
	if q.rows > info.Events || info.Last && q.rows != info.Events {
		return fmt.Errorf("ledger %d came with %d events, want %d", info.Ledger, q.rows, info.Events)
	}
	if info.Last {
		q.next, q.rows = q.next+1, 0
	}
	return nil
}
