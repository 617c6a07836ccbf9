package backpressure

import (
	"log/slog"
	"time"
)

// decideLocked is what a report costs: the paths of its service, no others. It
// reports whether a subscriber may want to know.
func (c *Controller) decideLocked(s *service) (changed bool) {
	now := s.updated
	c.expireLocked(now, 2) // a few, so that reports alone keep the sums fresh
	if c.learningLocked(now) {
		return false
	}
	// Building costs as much as there are services: at once while they are few,
	// otherwise once for every so many reports, or at the next tick.
	if c.dirty && (len(c.services) <= 256 || c.sinceWork*4 >= len(c.services)) {
		c.buildPathsLocked()
	}
	for _, m := range s.members {
		if c.stepLocked(m.path, now) {
			changed = true
		}
	}
	return (changed || c.rebuilt) && c.combineLocked()
}

// tickLocked is decideLocked for everybody: all that are due expire, signals age, and
// every path is brought to now. Its cost grows with the services that expire and with
// the paths, and not with the services.
func (c *Controller) tickLocked() (changed bool) {
	now := c.now()
	c.expireLocked(now, len(c.services))
	if c.learningLocked(now) {
		return false
	}
	if c.dirty {
		c.buildPathsLocked()
	}
	c.ageLocked(now)
	for _, p := range c.paths {
		c.stepLocked(p, now)
	}
	return c.combineLocked()
}

// expireLocked removes up to most services that have been silent for longer than the
// TTL. The list is in order of the last reports, so that it looks at one service
// more than it removes.
func (c *Controller) expireLocked(now time.Duration, most int) {
	cfg := c.cfg.Load()
	if cfg.TTL < 0 {
		return
	}
	for ; most > 0 && c.silent.Len() > 0; most-- {
		s := c.silent.Front().Value.(*service)
		if now-s.updated <= cfg.TTL {
			return
		}
		cfg.Logger.Warn("service expired", slog.String("service_id", s.id), slog.Duration("silent", now-s.updated))
		c.removeLocked(s)
	}
}

// learningLocked reports whether the controller still only listens. When the
// time is over it takes up each path where the services are: as if the decider had
// been there all the time. Doorman, Google's rate-limiting service, calls this its
// learning mode: state that the clients hold anyway needs no disk.
func (c *Controller) learningLocked(now time.Duration) bool {
	if !c.learning {
		return false
	}
	if c.learned == 0 || now < c.learned {
		return true
	}
	cfg := c.cfg.Load()
	c.learning = false
	c.rebuilt = true
	c.buildPathsLocked()
	for _, p := range c.paths {
		p.last = -1                               // the smoothed load starts from where the load is
		if f := p.reportedFraction(); f < 0.995 { // what rounds to 1 is open
			p.active, p.event, p.fraction = true, Resumed, max(f, cfg.Floor)
			p.since = now
		}
	}
	cfg.Logger.Info("learned", slog.Int("services", len(c.services)), slog.Int("paths", len(c.paths)))
	return false
}

// combineLocked makes the paths' state the controller's, and reports whether
// anything changed that a subscriber may want to know.
func (c *Controller) combineLocked() bool {
	fraction, active, changed := 1.0, false, c.rebuilt
	c.rebuilt = false
	for _, p := range c.paths {
		fraction = min(fraction, p.effective())
		active = active || p.limited()
		changed = changed || p.changed
		p.changed = false
	}
	c.fraction = fraction
	if active != c.active {
		now := c.now()
		if active {
			c.activeSince = now
		} else {
			c.activeTime += now - c.activeSince
		}
		c.active = active
	}
	return changed
}

// armLocked keeps the timer running while there is something to decide. A
// controller at rest has no timer, so that one that is dropped is collected, and a
// program that never reports pays nothing.
func (c *Controller) armLocked() {
	tick := c.cfg.Load().Tick
	if tick < 0 || c.closed || c.timer != nil {
		return
	}
	c.timer = time.AfterFunc(tick, c.onTimer)
}

func (c *Controller) onTimer() {
	c.Tick()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	if len(c.services) > 0 || len(c.external) > 0 || c.active || c.fraction < 1 {
		c.armLocked()
	}
}
