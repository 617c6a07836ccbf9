package backpressure

import (
	"log/slog"
	"time"
)

// decideLocked is what a report costs: the paths of its service, no others.
func (c *Controller) decideLocked(s *service) (changed bool) {
	now := s.updated
	c.expireLocked(now, 2) // a few, so that reports alone keep the sums fresh
	if c.learningLocked(now) {
		for _, m := range s.members {
			m.path.publishLocked(c.cfg.Load().Driver)
		}
		return false
	}
	// Building costs as much as there are services: at once while they are few,
	// otherwise once for every so many reports, or at the next tick.
	if c.dirty && (len(c.services.locked) <= 256 || c.sinceWork*4 >= len(c.services.locked)) {
		c.buildPathsLocked()
	}
	for _, m := range s.members {
		if c.stepLocked(m.path, s, now) {
			changed = true
		}
		m.path.publishLocked(c.cfg.Load().Driver)
	}
	return (changed || c.rebuilt) && c.publishLocked()
}

// tickLocked is decideLocked for everybody.
func (c *Controller) tickLocked() (changed bool) {
	now := c.now()
	c.expireLocked(now, len(c.services.locked))
	if c.learningLocked(now) {
		return false
	}
	if c.dirty {
		c.buildPathsLocked()
	}
	c.ageLocked(now)
	for _, p := range c.paths {
		c.stepLocked(p, nil, now)
		p.publishLocked(c.cfg.Load().Driver)
	}
	return c.publishLocked()
}

func (c *Controller) expireLocked(now time.Duration, most int) {
	cfg := c.cfg.Load()
	if cfg.TTL < 0 {
		return
	}
	for ; most > 0 && c.silent.front != nil; most-- {
		s := c.silent.front
		if now-s.updated <= cfg.TTL {
			return
		}
		cfg.Logger.Warn("service expired", slog.String("service_id", s.id), slog.Duration("silent", now-s.updated))
		c.removeLocked(s)
	}
}

// learningLocked reports whether the controller still only listens. When the
// time is over it takes up each path where the services are.
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
		p.last = -1 // the smoothed load starts from where the load is
		if f := p.reportedFraction(); f < 0.995 {
			p.active, p.event, p.fraction = true, Resumed, max(f, cfg.Floor)
			p.since = now
		}
	}
	cfg.Logger.Info("learned", slog.Int("services", len(c.services.locked)), slog.Int("paths", len(c.paths)))
	return false
}

// publishLocked makes the paths' state the controller's, and reports whether
// anything changed that somebody may want to hear of.
func (c *Controller) publishLocked() bool {
	fraction, active, changed := 1.0, false, c.rebuilt
	if c.rebuilt {
		c.publishPathsLocked()
	}
	c.rebuilt = false
	for _, p := range c.paths {
		fraction = min(fraction, p.effective())
		active = active || p.active || p.cap < 1
		changed = changed || p.changed
		p.changed = false
	}
	v := &c.view
	v.fraction.store(fraction)
	if v.active.Load() != active {
		now := int64(c.now())
		v.version.begin()
		if active {
			v.activeSince.Store(now)
		} else {
			v.activeTime.Add(now - v.activeSince.Load())
		}
		v.active.Store(active)
		v.version.end()
	}
	v.external.Store(int64(len(c.external)))
	// Last, because until then readers go by what the services report: who saw a
	// fraction that is not yet the paths' would release the pipeline.
	v.learning.Store(c.learning)
	return changed
}

// publishPathsLocked shows new paths, and then who is on them.
func (c *Controller) publishPathsLocked() {
	for _, p := range c.paths {
		p.publishLocked(c.cfg.Load().Driver)
	}
	c.view.paths.Store(new(c.paths))
	for _, s := range c.services.all() {
		if len(s.members) == 1 {
			s.view.paths.Store(&s.members[0].path.only)
			continue
		}
		on := make([]*path, len(s.members))
		for i, m := range s.members {
			on[i] = m.path
		}
		s.view.paths.Store(&on)
	}
}

// armLocked keeps the timer running while there is something to decide. A
// controller at rest has no timer, so that one that is dropped is collected.
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
	if len(c.services.locked) > 0 || len(c.external) > 0 || c.Active() || c.Fraction() < 1 {
		c.armLocked()
	}
}
