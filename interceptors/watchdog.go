package interceptors

import (
	"fmt"
	"sync"
	"time"
)

// A watchdog looks after the open streams while there are any: one timer for all
// of them, no goroutine while none is open, and none to close.
//
// It ends streams that are stuck. Two deadlocks are what it is there for: a
// DoExchange whose client sends and does not read gets stuck when both windows
// are full, and so does a DoPut whose acknowledgements are not read. Both work
// in tests, where few messages fit the window. And it takes back the room of a
// message that its handler has had for longer than [ServerConfig.MaxMessageHold].
type watchdog struct {
	interval time.Duration // 0 is off

	mu      sync.Mutex
	running bool
}

// setWatchdog derives how often to look: four times in the shorter limit, so
// that a limit is exceeded by a quarter at most.
func (c *core) setWatchdog() {
	limit := max(c.stallTimeout, 0)
	if c.throttler != nil && c.maxMessageHold > 0 && (limit == 0 || c.maxMessageHold < limit) {
		limit = c.maxMessageHold
	}
	c.watchdog.interval = limit / 4
}

func (c *core) watch() {
	w := &c.watchdog
	if w.interval <= 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.running {
		w.running = true
		time.AfterFunc(w.interval, c.inspect)
	}
}

func (c *core) inspect() {
	c.each(func(cl *call) {
		if c.maxMessageHold > 0 {
			cl.expire(c.maxMessageHold)
		}
		c.endIfStalled(cl)
	})
	w := &c.watchdog
	w.mu.Lock()
	defer w.mu.Unlock()
	// A stream that opens now is counted here, or starts the next round itself.
	if w.running = c.openStreams() > 0; w.running {
		time.AfterFunc(w.interval, c.inspect)
	}
}

// endIfStalled, which one timer at a time runs, ends a stream of both directions
// whose SendMsg is stuck. A server stream may be stuck as long as its reader
// likes: that is backpressure. So is what holds a client's SendMsg while it
// waits in RecvMsg as well.
func (c *core) endIfStalled(cl *call) {
	if c.stallTimeout <= 0 || !cl.stream || !cl.method.clientStream {
		return
	}
	now := cl.now()
	if c.sparesReaders && cl.recv.running() {
		cl.readAt = now // it reads all that comes, so its server does not wait for it
		return
	}
	cl.send.mu.Lock()
	inside, since := cl.send.inside, max(cl.send.entered, cl.readAt)
	cl.send.mu.Unlock()
	stuck := time.Duration(now - since)
	if !inside || stuck < c.stallTimeout {
		return
	}
	e := cl.describe(&Error{
		Reason: ReasonStalled, Code: c.codes.Stalled, RetryAfter: Never,
		Detail: fmt.Sprintf("SendMsg made no progress for %s: the other side does not read what it is sent",
			stuck.Round(time.Second)),
	})
	c.log.Warn("stream ended by the watchdog", "method", cl.method.name, "class", cl.kind().String(), "stuck", stuck)
	cl.kill(e)
}

// running reports whether a call of the transport runs.
func (h *half) running() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inside
}
