package interceptors

import (
	"errors"
	"slices"
	"time"
)

// errAbandoned is the cause of the context of a stream that nobody holds any more.
var errAbandoned = errors.New("interceptors: the stream was abandoned: read it to its end or cancel its context")

// A lostStream is a stream whose holder let go of it while its call was open:
// flight.Reader's Release does not end the call, so the server's handler would
// wait for ever.
type lostStream struct {
	current *current
	patient int // rounds to wait still
}

// patience is how many rounds a stream that was closed for sending is left
// alone: its server may still be at work on what it was sent.
const patience = 6

// noteLost runs on a goroutine of the runtime. Cancelling there would close
// channels from outside the bubble of a user's synctest, which kills the test,
// so the loss is only noted; the next call or the timer does the rest.
func (c *Client) noteLost(cur *current) {
	if cur.a.Load().isOver() {
		return
	}
	l := lostStream{current: cur}
	if cur.closing.Load() && cur.a.Load().method.clientStream {
		l.patient = patience
	}
	c.reapMu.Lock()
	defer c.reapMu.Unlock()
	c.lost = append(c.lost, l)
}

// watchLost keeps a timer while streams are open.
func (c *Client) watchLost() {
	c.reapMu.Lock()
	defer c.reapMu.Unlock()
	if c.reaping {
		return
	}
	c.reaping = true
	time.AfterFunc(c.cfg.ReapInterval, c.reapRound)
}

func (c *Client) reapRound() {
	c.reapMu.Lock()
	for i := range c.lost {
		c.lost[i].patient--
	}
	c.reapMu.Unlock()
	c.reap()
	c.reapMu.Lock()
	defer c.reapMu.Unlock()
	if c.reaping = c.openStreams() > 0; c.reaping {
		time.AfterFunc(c.cfg.ReapInterval, c.reapRound)
	}
}

// reap cancels the streams that were lost.
func (c *Client) reap() {
	c.reapMu.Lock()
	var due []lostStream
	c.lost = slices.DeleteFunc(c.lost, func(l lostStream) bool {
		if l.patient <= 0 {
			due = append(due, l)
		}
		return l.patient <= 0
	})
	c.reapMu.Unlock()
	for _, l := range due {
		a := l.current.a.Load()
		if a.isOver() {
			continue
		}
		c.abandoned.Add(1)
		c.log.Warn("abandoned stream cancelled", "method", a.method.name, "open", time.Duration(a.now()))
		a.stop(errAbandoned)
	}
}
