package interceptors

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A half is one direction of a call. One goroutine at a time writes it, which
// is gRPC's own rule for SendMsg and RecvMsg; any goroutine reads it. It is
// written for each message, so every word here has to earn its two nanoseconds.
type half struct {
	moved     tally
	expansion atomic.Int64 // what compressed bodies claim to be beyond what they are
	waited    atomic.Int64 // nanoseconds spent at the gate
	// visits sums the time spent in the transport: entering takes the time off,
	// leaving adds it. So it is negative while inside, and the same negative
	// number as long as it is the same visit.
	visits atomic.Int64
	last   atomic.Uint64 // the message that was handed over last: see pack
}

// enter and leave bracket a visit to the transport. Times are from the call's
// start, which a sum of visits cannot exceed; the one keeps an entry at time 0 negative.
func (h *half) enter(now int64) { h.visits.Add(-now - 1) }
func (h *half) leave(now int64) { h.visits.Add(now + 1) }

// hand notes the message that is handed over. Batches of one stream often have
// one size, and a load is cheaper than a store that the other processors see.
func (h *half) hand(w *weight) {
	if p := w.packed(); h.last.Load() != p {
		h.last.Store(p)
	}
}

func (h *half) inside() bool { return h.visits.Load() < 0 }

// transport returns the time spent in the transport, the running visit included.
func (h *half) transport(now int64) time.Duration {
	v := h.visits.Load()
	if v < 0 {
		v = max(v+now+1, 0)
	}
	return time.Duration(v)
}

// pack keeps the rows and bytes of one message in one word, so that a reader
// never sees half of it. Zero is no message in flight.
const (
	rowBits  = 26
	byteBits = 36
	holds    = 1 << 62 // the message holds the call's permit
	present  = 1 << 63 // it counts as a message in flight
)

func pack(rows, bytes int64) uint64 {
	return present | uint64(min(rows, 1<<rowBits-1))<<byteBits | uint64(min(bytes, 1<<byteBits-1))
}

func unpack(w uint64) flowcontrol.Cost {
	if w&present == 0 {
		return flowcontrol.Cost{}
	}
	return flowcontrol.Cost{Messages: 1, Rows: int64(w >> byteBits & (1<<rowBits - 1)), Bytes: int64(w & (1<<byteBits - 1))}
}

func (h *half) count(w *weight) {
	h.moved.add(w.rows, w.bytes)
	if w.expansion != 0 {
		h.expansion.Add(w.expansion)
	}
}

func (h *half) traffic() Traffic {
	messages, rows, bytes := h.moved.read()
	return Traffic{Messages: messages, Rows: rows, Bytes: bytes, Uncompressed: bytes + h.expansion.Load()}
}

// hold keeps the permit of the message that is handed over until release. Once
// the call is over nobody would give it back, and one that ends meanwhile, while
// another goroutine is still in RecvMsg, finds it, or is found here.
func (c *call) hold(permit flowcontrol.Permit, w *weight) {
	if c.isOver() {
		permit.Release(flowcontrol.Ignored)
		return
	}
	c.permit = permit
	c.recv.last.Store(w.packed() | holds)
	if c.isOver() {
		c.giveBack(flowcontrol.Ignored)
	}
}

// release gives back what the message that was handed over holds of the gate,
// now that the next one is asked for.
func (c *call) release(o flowcontrol.Outcome) {
	if c.recv.last.Load()&holds != 0 && c.recv.last.Swap(0)&holds != 0 {
		c.permit.Release(o)
	}
}

// giveBack is release at the call's end: nothing is in flight any more.
func (c *call) giveBack(o flowcontrol.Outcome) {
	if c.recv.last.Swap(0)&holds != 0 {
		c.permit.Release(o)
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
	// stuck and since are the watchdog's: the visit that it saw last, and when first.
	stuck, since int64

	// stop cancels what the handler, or the transport, sees; abort ends the RPC
	// for the peer as well.
	stop  context.CancelCauseFunc
	abort func(*Error)

	failure  atomic.Pointer[Error]
	admitted atomic.Bool  // before that it is not counted, only found
	over     atomic.Int64 // the time of its end plus one; 0 while it is open
	ending   ending       // written before it is handed to the shard
	// permit is what the message being handled holds of the gate. It is valid
	// while recv.last says so, and goes to whoever takes that back: the next
	// RecvMsg or the call's end, exactly one of them.
	permit flowcontrol.Permit

	shard      *shard
	prev, next *call // next is the shard's stack of new calls first, then its list
	after      *call // in the shard's stack of calls that are over
}

func (c *call) now() int64 { return int64(time.Since(c.start)) }

func (c *call) isOver() bool { return c.over.Load() != 0 }

// age is now, until the call's end and no longer.
func (c *call) age() int64 {
	if over := c.over.Load(); over != 0 {
		return over - 1
	}
	return c.now()
}

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
	if c.isOver() || c.fail(e) != e {
		return
	}
	if c.abort != nil {
		c.abort(e)
	}
}

// inFlight is what is being handled, and what is being sent.
func (c *call) inFlight() flowcontrol.Cost {
	var in flowcontrol.Cost
	if !c.recv.inside() {
		in = unpack(c.recv.last.Load())
	}
	if c.send.inside() {
		in = in.Add(unpack(c.send.last.Load()))
	}
	return in
}

// addTo adds what the call moved so far.
func (c *call) addTo(s *ClassStats) {
	now := c.age()
	s.Received.add(c.recv.traffic())
	s.Sent.add(c.send.traffic())
	idle, blocked := c.recv.transport(now), c.send.transport(now)
	throttled := time.Duration(c.recv.waited.Load() + c.send.waited.Load())
	s.Idle += idle
	s.Blocked += blocked
	s.Throttled += throttled
	s.Busy += max(0, time.Duration(now)-idle-blocked-throttled)
}
