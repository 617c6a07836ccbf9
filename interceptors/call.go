package interceptors

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A half is one direction of a call. One goroutine at a time moves messages in
// it, which is gRPC's own rule for SendMsg and RecvMsg; any goroutine reads it.
// Times are nanoseconds from the start of the call.
type half struct {
	mu        sync.Mutex // guards what follows; held for a few instructions, never across a call out
	moved     Traffic
	throttled time.Duration // spent at the gate
	transport time.Duration // spent in calls of the transport that are over
	inside    bool          // such a call runs
	entered   int64         // when it, or the one before it, began
	inFlight  flowcontrol.Cost

	// permit is what the message in flight holds of the gate since heldAt. Only
	// a received message holds any.
	permit flowcontrol.Permit
	held   bool
	heldAt int64
}

// enter begins a call of the transport that sends w, after a wait at the gate.
func (h *half) enter(now, throttled int64, w *weight) {
	h.mu.Lock()
	h.throttled += time.Duration(throttled)
	h.inside, h.entered = true, now
	h.inFlight = w.inFlight()
	h.mu.Unlock()
}

// leave ends it without a message, and passed with one, which is counted.
func (h *half) leave(now int64) {
	h.mu.Lock()
	h.leaveLocked(now)
	h.mu.Unlock()
}

func (h *half) leaveLocked(now int64) {
	h.inside = false
	h.transport += time.Duration(now - h.entered)
	h.inFlight = flowcontrol.Cost{}
}

func (h *half) passed(now int64, w *weight) {
	h.mu.Lock()
	h.leaveLocked(now)
	h.countLocked(w)
	h.mu.Unlock()
}

// arrived is passed for a message that is in flight at once, because it waits
// for no room.
func (h *half) arrived(now int64, w *weight) {
	h.mu.Lock()
	h.leaveLocked(now)
	h.countLocked(w)
	h.inFlight = w.inFlight()
	h.mu.Unlock()
}

func (h *half) countLocked(w *weight) {
	h.moved.Messages++
	h.moved.Rows += w.rows
	h.moved.Bytes += w.bytes
	h.moved.Uncompressed += w.bytes + w.expansion
}

// count adds a message that passed in no call of the transport of its own.
func (h *half) count(w *weight) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.countLocked(w)
}

// handle puts a received message in flight: its handler has it.
func (h *half) handle(w *weight) {
	h.mu.Lock()
	h.inFlight = w.inFlight()
	h.mu.Unlock()
}

// empty reports that nothing has moved yet.
func (h *half) empty() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.moved.Messages == 0
}

// addTo adds what moved to sum, and returns the times in the transport, a call
// that runs included, and at the gate.
func (h *half) addTo(sum *Traffic, now int64) (transport, throttled time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum.add(h.moved)
	transport = h.transport
	if h.inside {
		transport += time.Duration(max(now-h.entered, 0))
	}
	return transport, h.throttled
}

// takePermit ends what the received message holds, and returns its permit, which
// is the zero Permit where it held none.
func (h *half) takePermit() flowcontrol.Permit {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.takePermitLocked()
}

func (h *half) takePermitLocked() flowcontrol.Permit {
	if !h.held {
		return flowcontrol.Permit{}
	}
	h.held = false
	return h.permit
}

// A call is one RPC from its admission to its real end.
type call struct {
	core   *core
	method *method
	tenant *tenant
	start  time.Time
	class  atomic.Uint32
	stream bool
	outer  *call // what it is made for, when that is governed in this process
	gated  bool  // it asks the gate for itself
	rides  bool  // outer has passed the same gate

	recv, send half
	// readAt is the watchdog's: when it last saw a RecvMsg that excuses SendMsg.
	readAt int64

	// stop cancels what the handler, or the transport, sees; abort ends the RPC
	// for the peer as well.
	stop  context.CancelCauseFunc
	abort func(*Error)

	failure  atomic.Pointer[Error]
	admitted atomic.Bool  // before that it is not counted, only found
	over     atomic.Int64 // the time of its end plus one; 0 while it is open
	index    int          // its place in core.open; guarded by core.mu, as is listed
	listed   bool
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

// receive begins a RecvMsg: the message before it is done.
func (c *call) receive(now int64) {
	h := &c.recv
	h.mu.Lock()
	p := h.takePermitLocked()
	h.inside, h.entered = true, now
	h.inFlight = flowcontrol.Cost{}
	h.mu.Unlock()
	p.Release(flowcontrol.Success)
}

// hold keeps the permit of the message that the handler gets now. Once the call
// is over nothing would give it back: either the call's end finds it here, or
// the end is found.
func (c *call) hold(permit flowcontrol.Permit, w *weight, now, throttled int64) {
	h := &c.recv
	h.mu.Lock()
	h.throttled += time.Duration(throttled)
	if !c.isOver() {
		h.permit, h.held, h.heldAt = permit, true, now
		h.inFlight = w.inFlight()
		permit = flowcontrol.Permit{}
	}
	h.mu.Unlock()
	permit.Release(flowcontrol.Ignored)
}

// answer says that what was received is done, because the handler sends. What a
// handler sends afterwards, for as long as it likes and as slowly as its peer
// reads, holds no room.
func (c *call) answer() {
	h := &c.recv
	h.mu.Lock()
	p := h.takePermitLocked()
	if !h.inside {
		h.inFlight = flowcontrol.Cost{}
	}
	h.mu.Unlock()
	p.Release(flowcontrol.Success)
}

// expire gives back what a message has held for longer than limit. It is still
// being handled, and still listed as in flight.
func (c *call) expire(limit time.Duration) {
	h := &c.recv
	var p flowcontrol.Permit
	h.mu.Lock()
	if h.held && c.now()-h.heldAt >= int64(limit) {
		p = h.takePermitLocked()
	}
	h.mu.Unlock()
	p.Release(flowcontrol.Ignored)
}

// giveBack releases what the call still holds at its end.
func (c *call) giveBack(o flowcontrol.Outcome) { c.recv.takePermit().Release(o) }

// waited adds a wait at the gate that ended without a message.
func (h *half) waited(d int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.throttled += time.Duration(d)
}

// fail makes e the call's end, unless it has one: the first failure is what the
// peer is told, whatever the handler makes of it.
func (c *call) fail(e *Error) *Error {
	if !c.failure.CompareAndSwap(nil, e) {
		return c.failure.Load()
	}
	c.core.countRejection(c.tenant, e)
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
	c.recv.mu.Lock()
	in := c.recv.inFlight
	c.recv.mu.Unlock()
	c.send.mu.Lock()
	defer c.send.mu.Unlock()
	return in.Add(c.send.inFlight)
}

// addTo adds what the call moved so far.
func (c *call) addTo(s *ClassStats) {
	now := c.age()
	idle, read := c.recv.addTo(&s.Received, now)
	blocked, sent := c.send.addTo(&s.Sent, now)
	s.Idle += idle
	s.Blocked += blocked
	s.Throttled += read + sent
	s.Busy += max(0, time.Duration(now)-idle-blocked-read-sent)
}
