package interceptors

import (
	"fmt"
	"time"
)

// watch looks after the open streams while there are any: one timer for all of
// them, no goroutine while none is open, and none to close. Two deadlocks are
// what it is there for. A DoExchange whose client sends and does not read gets
// stuck when both windows are full, and so does a DoPut whose acknowledgements
// are not read: fine in tests, where few of them fit the window, dead in use.
func (c *core) watch() {
	if c.stallTimeout <= 0 {
		return
	}
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	if c.watching {
		return
	}
	c.watching = true
	time.AfterFunc(c.stallTimeout/4, c.inspect)
}

func (c *core) inspect() {
	c.each(c.endIfStalled)
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	// A stream that opens now finds watching set, or starts the next watch itself.
	if c.watching = c.streams.Load() > 0; c.watching {
		time.AfterFunc(c.stallTimeout/4, c.inspect)
	}
}

// endIfStalled, which one timer at a time runs, ends a stream of both directions whose SendMsg is stuck. A
// server stream may be stuck as long as its reader likes: that is back-pressure.
// So is what holds a client's SendMsg while it waits in RecvMsg as well.
func (c *core) endIfStalled(cl *call) {
	visit := cl.send.visits.Load()
	if visit >= 0 || !cl.stream || !cl.method.clientStream {
		return
	}
	if c.sparesReaders && cl.recv.inside() {
		cl.stuck = 0 // it reads all that comes, so its server does not wait for it
		return
	}
	now := cl.now()
	if cl.stuck != visit {
		cl.stuck, cl.since = visit, now
		return
	}
	stuck := time.Duration(now - cl.since)
	if stuck < c.stallTimeout {
		return
	}
	e := cl.describe(&Error{
		Reason: ReasonStalled, Code: c.codes.Stalled, RetryAfter: Never,
		Detail: fmt.Sprintf("SendMsg made no progress for %s: the other side does not read what it is sent", stuck.Round(time.Second)),
	})
	c.log.Warn("stream ended by the watchdog", "method", cl.method.name, "class", cl.kind().String(), "stuck", stuck)
	cl.kill(e)
}
