package interceptors

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A half is one direction of a call. One goroutine at a time writes it, which
// is gRPC's own rule for SendMsg and RecvMsg; any goroutine reads it.
type half struct {
	messages, rows, bytes, raw atomic.Int64
	inside                     atomic.Int64 // nanoseconds spent in the transport
	waited                     atomic.Int64 // nanoseconds spent at the gate
	mark                       atomic.Int64 // when the transport was entered, plus 1; 0 while outside
	flying                     atomic.Uint64
}

// flying packs the rows and bytes of the message that is in flight now into one
// word with a presence bit, so that a reader never sees half of it.
const (
	rowBits  = 27
	byteBits = 36
	present  = 1 << 63
)

func (h *half) fly(rows, bytes int64) {
	h.flying.Store(present | uint64(min(rows, 1<<rowBits-1))<<byteBits | uint64(min(bytes, 1<<byteBits-1)))
}

func (h *half) land() { h.flying.Store(0) }

func (h *half) inFlight() flowcontrol.Cost {
	w := h.flying.Load()
	if w == 0 {
		return flowcontrol.Cost{}
	}
	return flowcontrol.Cost{Messages: 1, Rows: int64(w >> byteBits & (1<<rowBits - 1)), Bytes: int64(w & (1<<byteBits - 1))}
}

func (h *half) count(rows, bytes, raw int64) {
	h.messages.Add(1)
	if rows != 0 {
		h.rows.Add(rows)
	}
	h.bytes.Add(bytes)
	if raw != 0 {
		h.raw.Add(raw)
	}
}

// transport returns the time spent in the transport, the running visit included.
func (h *half) transport(now int64) time.Duration {
	spent := h.inside.Load()
	if mark := h.mark.Load(); mark > 0 && now > mark {
		spent += now - mark
	}
	return time.Duration(spent)
}

func (h *half) traffic() Traffic {
	return Traffic{Messages: h.messages.Load(), Rows: h.rows.Load(), Bytes: h.bytes.Load(), Uncompressed: h.raw.Load()}
}

// A room is what the message being handled holds of the gate. It is swapped by
// whoever gives it back, the next RecvMsg or the call's end, so that exactly one
// of them does; permit is valid while held is 1.
type room struct {
	permit flowcontrol.Permit
	held   atomic.Uint32
}

func (r *room) release(o flowcontrol.Outcome) {
	if r.held.Swap(0) == 1 {
		r.permit.Release(o)
	}
}

// hold keeps the permit until release. A call that ended meanwhile, while
// another goroutine was still in RecvMsg, gives it back at once.
func (c *call) hold(permit flowcontrol.Permit) {
	c.room.permit = permit
	c.room.held.Store(1)
	if c.ended.Load() {
		c.room.release(flowcontrol.Ignored)
	}
}

// A call is one RPC from its admission to its real end.
type call struct {
	core   *core
	method *method
	tenant *tenant
	start  time.Time
	class  atomic.Uint32
	stream bool

	recv, send half

	// stop cancels what the handler, or the transport, sees; abort ends the RPC
	// for the peer as well.
	stop  context.CancelCauseFunc
	abort func(*Error)

	failure atomic.Pointer[Error]
	ended   atomic.Bool
	room    room

	shard      *shard
	prev, next *call
}

func (c *call) now() int64 { return int64(time.Since(c.start)) }

func (c *call) kind() Class { return Class(c.class.Load()) }

func (c *call) describe(e *Error) *Error {
	e.Method, e.Class = c.method.name, c.kind()
	return e
}

// fail makes e the call's end, unless it has one: the first failure is what the
// peer is told, whatever the handler makes of it.
func (c *call) fail(e *Error) *Error {
	if !c.failure.CompareAndSwap(nil, e) {
		return c.failure.Load()
	}
	c.core.countRejection(e)
	if c.stop != nil {
		c.stop(e)
	}
	return e
}

// kill ends the call from outside: the watchdog and Drain.
func (c *call) kill(e *Error) {
	if c.ended.Load() || c.fail(e) != e {
		return
	}
	if c.abort != nil {
		c.abort(e)
	}
}

// shards keep the bookkeeping of many short calls off one lock.
const shards = 8

// A shard holds the calls that are open, in a list, and the sums of those that
// ended. Both change under one lock, so a reader counts no call twice.
type shard struct {
	mu     sync.Mutex
	open   *call
	totals [classes]ClassStats
	_      [64]byte
}

func (s *shard) add(c *call) {
	c.shard = s
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.next = s.open; c.next != nil {
		c.next.prev = c
	}
	s.open = c
}

// remove folds the call into the sums.
func (s *shard) remove(c *call, end ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		s.open = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	total := &s.totals[c.kind()]
	c.addTo(total)
	total.Started++
	switch end {
	case endedWell:
		total.Completed++
	case endedCancelled:
		total.Cancelled++
	default:
		total.Failed++
	}
}

// addTo adds what the call moved so far.
func (c *call) addTo(s *ClassStats) {
	now := c.now()
	s.Received.add(c.recv.traffic())
	s.Sent.add(c.send.traffic())
	idle, blocked := c.recv.transport(now), c.send.transport(now)
	throttled := time.Duration(c.recv.waited.Load() + c.send.waited.Load())
	s.Idle += idle
	s.Blocked += blocked
	s.Throttled += throttled
	s.Busy += max(0, time.Duration(now)-idle-blocked-throttled)
}
