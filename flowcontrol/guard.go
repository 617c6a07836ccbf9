package flowcontrol

import "sync"

// guard keeps a fixed limit that is far too large from collapsing the service:
// where a tenth of the work of a window is dropped, because it came too late
// or found something overloaded, it lowers the limit in force, and raises it
// again, by little, while nothing is dropped and the limit is reached. It runs
// on dropped work and on refusals only, so it costs the others nothing: the
// limit in force is published as new settings.
type guard struct {
	mu        sync.Mutex
	active    bool // the limit in force is below the configured one
	began     int64
	completed uint64 // when the window began
	drops     uint64
}

const (
	guardWindow = int64(100e6)
	guardDrops  = 10 // in a window, before they mean anything
	guardGrow   = 1.05
)

// dropped notes one dropped permit.
func (g *guard) dropped(t *Throttler) {
	s := t.settings.Load()
	if s.cfg.Adaptive.Mode != AdaptiveGuard || s.cfg.Mode == Observe || s.limit.Messages < 0 {
		return
	}
	now := t.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drops++
	if now-g.began < guardWindow {
		return
	}
	completed := t.flight.completed()
	done, drops := completed-g.completed, g.drops
	fresh := now-g.began > 10*guardWindow // the window began long before these drops
	g.began, g.completed, g.drops = now, completed, 0
	if fresh || drops < guardDrops || drops*10 < done {
		return
	}
	factor := 0.7
	if drops*2 > done {
		factor = 0.5
	}
	g.publish(t, max(1, int64(float64(min(s.limit.Messages, t.flight.messages()+1))*factor)))
}

// refused lets the limit grow back; it is called when the limit was reached.
func (g *guard) refused(t *Throttler) {
	now := t.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.active || now-g.began < guardWindow {
		return
	}
	g.began, g.completed, g.drops = now, t.flight.completed(), 0
	g.publish(t, int64(float64(t.settings.Load().limit.Messages)*guardGrow)+1)
}

// publish puts a limit in force, at most the configured one.
func (g *guard) publish(t *Throttler, limit int64) {
	t.reconfigure.Lock()
	defer t.reconfigure.Unlock()
	s := *t.settings.Load()
	if s.cfg.Adaptive.Mode != AdaptiveGuard || s.cfg.Limit.Messages < 0 {
		g.active = false
		return
	}
	s.limit.Messages = min(limit, s.cfg.Limit.Messages)
	g.active = s.limit.Messages < s.cfg.Limit.Messages
	t.settings.Store(&s)
	if t.queue.waiting.Load() > 0 {
		t.queue.grant()
	}
}
