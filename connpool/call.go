package connpool

import (
	"container/list"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// The phases of a call on its slot. Only a call in phaseBegun can be taken
// back: nothing of it has left the process.
//
//	new ---> begun ---> sent          gRPC's stats handler reports
//	           |
//	           v takeBack
//	         moved ---> tooLate       its header went out before gRPC saw the cancel
//
// A moved call goes to another connection. One that is too late goes there too if
// it is a stream, of which the server has seen a header and no message; a unary
// call is rejected as moved, because its request may have gone with the header.
const (
	phaseNew     = uint32(iota) // gRPC has not seen it: an interceptor may still reject it
	phaseBegun                  // it waits for the transport or for a stream
	phaseSent                   // its header is on the wire
	phaseMoved                  // the pool took it back
	phaseTooLate                // the pool took it back, and its header went out all the same
)

var (
	errMoved     = errors.New("connpool: moved to another connection")
	errAbandoned = errors.New("connpool: the stream was dropped without an end")
	errEnded     = errors.New("connpool: the call has ended")
)

// A call is one attempt on one slot, from pick to end. It is the context that
// gRPC runs the attempt with, so that the slot's stats handler finds it.
type call struct {
	context.Context
	cancel  context.CancelCauseFunc
	slot    *slot
	started int64         // from the slot's creation, plus one
	place   *list.Element // in the slot's list
	phase   atomic.Uint32
	done    atomic.Bool
	stop    func() bool // of the watch on the context; nil for unary calls
	probing atomic.Bool // the breaker waits for its outcome
	inside  atomic.Bool // the user is in NewStream or RecvMsg, whose result says whether it has ended

	// For the reclaiming of an abandoned stream.
	inner     grpc.ClientStream
	desc      *grpc.StreamDesc
	closeSent atomic.Bool
}

type callKey struct{}

// Value finds the call itself under callKey.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func newCall(ctx context.Context, s *slot) *call {
	c := &call{slot: s, started: int64(time.Since(s.created)) + 1}
	c.Context, c.cancel = context.WithCancelCause(ctx)
	s.add(c)
	return c
}

func (c *call) age() time.Duration {
	return time.Since(c.slot.created) - time.Duration(c.started-1)
}

// finish releases the slot, once, whichever of the ways to end came first:
// OnFinish, a failed creation, the last RecvMsg, the context's end, or the
// collection of an abandoned stream. It returns true to the first.
func (c *call) finish(err error) bool {
	if !c.done.CompareAndSwap(false, true) {
		return false
	}
	c.slot.remove(c)
	if b := c.slot.lane.pool.breaker; b != nil {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		b.done(err, c.probing.Swap(false))
	}
	c.cancel(errEnded)
	c.slot.release()
	return true
}

// end is finish for every way but the context's own.
func (c *call) end(err error) {
	if c.stop != nil {
		c.stop()
	}
	c.finish(err)
}

// onFinish is gRPC's word that a stream has ended. An interceptor may try it
// again where its user waits for an answer, and then this was the end of one try.
func (c *call) onFinish(err error) {
	if !c.inside.Load() {
		c.end(err)
	}
}

// takeBack cancels the call if nothing of it was sent.
func (c *call) takeBack() bool {
	if !c.phase.CompareAndSwap(phaseBegun, phaseMoved) {
		return false
	}
	c.cancel(errMoved)
	return true
}

// begun and sent are the stats handler's reports.
func (c *call) begun() { c.phase.CompareAndSwap(phaseNew, phaseBegun) }

func (c *call) sent() {
	for {
		switch p := c.phase.Load(); p {
		case phaseNew, phaseBegun:
			if c.phase.CompareAndSwap(p, phaseSent) {
				return
			}
		case phaseMoved:
			c.phase.Store(phaseTooLate)
			return
		default:
			return
		}
	}
}

// moves reports whether a failed call goes to another connection. It does only
// when nothing of it has left the process and its connection is lost, so that
// the server sees no call twice and no other retry is multiplied. lost counts how
// often this happened to the call; a call that the pool itself took back does
// not count, as each time costs a connection.
//
// A call that gRPC has seen but not sent failed on its transport, in its
// credentials or in an interceptor. Only the first is cured by another
// connection, hence the look at the connection.
func (c *call) moves(ctx context.Context, err error, unary bool, lost *int) bool {
	p := c.slot.lane.pool
	if ctx.Err() != nil || p.isClosed() {
		return false
	}
	switch c.phase.Load() {
	case phaseMoved:
	case phaseTooLate: // of a stream, no message went with the header
		if unary {
			return false
		}
	case phaseBegun:
		gone := c.slot.has(flagDown|flagDraining) || c.slot.cc.GetState() != connectivity.Ready
		if !gone || status.Code(err) != codes.Unavailable || *lost >= p.cfg.MaxRetries {
			return false
		}
		*lost++
	default:
		return false
	}
	p.counters.moved.Add(1)
	return true
}

// result is what the caller sees of the last attempt.
func (c *call) result(ctx context.Context, err error) error {
	l, phase := c.slot.lane, c.phase.Load()
	takenBack := phase == phaseMoved || phase == phaseTooLate
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && takenBack: // gRPC saw only that it was cancelled
		return l.expired(ctx, c.age())
	case phase == phaseTooLate:
		return &Error{Reason: ReasonMoved, Endpoint: l.pool.target, Lane: l.name}
	case takenBack, l.pool.ctx.Err() != nil && ctx.Err() == nil && status.Code(err) == codes.Canceled:
		return &Error{Reason: ReasonClosed, Endpoint: l.pool.target, Lane: l.name}
	}
	return err
}
