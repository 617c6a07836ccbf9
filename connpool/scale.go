package connpool

import (
	"math"
	"slices"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// takeBack sends to other connections what waits on a lost one and has sent nothing.
func (s *slot) takeBack() {
	for _, c := range s.runningCalls() {
		c.takeBack()
	}
}

// grow opens a connection where one is due: to the minimum, beyond the target
// utilization, for calls that wait, or to replace one.
func (p *Pool) grow(now time.Time, soonest func(time.Time)) {
	for _, l := range p.lanes { // a lane without any comes before one that grows
		if l.waiting.Load() > 0 && !l.reachable() {
			p.growLane(l, now, soonest)
		}
	}
	for _, l := range p.lanes {
		p.growLane(l, now, soonest)
	}
	p.forgetFailure(now, soonest)
}

// forgetFailure is for a dial that failed and that no lane needs any more: it
// must not be why calls are rejected when a connection is lost much later. A
// server that says that it is not serving is asked on, so that failure stays.
func (p *Pool) forgetFailure(now time.Time, soonest func(time.Time)) {
	switch {
	case p.failures == 0 || p.dialing != nil:
	case now.Before(p.retry.next):
		soonest(p.retry.next)
	default:
		for _, l := range p.lanes {
			if !l.ejected() {
				l.failure.Store(nil)
			}
		}
	}
}

// census is the lane's sum over its slots that are not draining.
type census struct {
	active, healthy, running, capacity int
}

func (l *lane) census() (c census) {
	for _, s := range *l.slots.Load() {
		c.active++
		if s.has(flagMask) {
			continue
		}
		c.healthy++
		c.running += s.running()
		c.capacity += int(s.limit.Load())
	}
	return c
}

func (p *Pool) growLane(l *lane, now time.Time, soonest func(time.Time)) {
	c, waiting := l.census(), l.waiting.Load() > 0
	reason, due := openReason(0), true
	switch {
	case c.active < l.min:
		reason = openMinimum
	case waiting && (c.healthy == 0 || c.running >= c.capacity):
		reason = openWaiting
	case c.capacity > 0 && float64(c.running) >= targetUtilization*float64(c.capacity):
		reason = openLoad
	default:
		due = false
	}
	l.setHigh(c, due)
	if due && c.active >= l.max {
		p.full(l, c)
		due = false
	}
	if due && c.active > 0 && p.undrain(l) {
		p.wake() // look again: one may not be enough
		return
	}
	if p.dialing != nil {
		return
	}
	d := dialing{lane: l, reason: reason}
	if !due {
		if d.replace = p.due(l, now, soonest); d.replace == nil {
			return
		}
		d.reason = openReplace
	}
	if now.Before(p.retry.next) {
		soonest(p.retry.next)
		return
	}
	if d.replace != nil {
		d.replace.replacing = true
	}
	p.startDial(d)
}

// setHigh says at which load the lane's slots wake the worker. If the lane is to
// take slack more calls before it is due, one of its n slots with room takes at
// least slack/n of them. A lane that is due already does not wake it: the end of
// a dial or a timer does.
func (l *lane) setHigh(c census, due bool) {
	slots := *l.slots.Load()
	room := 0
	for _, s := range slots {
		if s.load() != noRoom {
			room++
		}
	}
	slack := int(math.Ceil(targetUtilization*float64(c.capacity))) - c.running
	for _, s := range slots {
		if due {
			s.high.Store(math.MaxUint32)
		} else {
			s.high.Store(uint32(s.running() + max(1, slack/max(room, 1))))
		}
	}
}

// full is for a lane that is at its maximum and full. Connections of a server
// without a limit carry more; a limit that the server announced is kept.
func (p *Pool) full(l *lane, c census) {
	if c.running < c.capacity || c.healthy == 0 {
		return
	}
	if !l.pinned {
		l.pinned = true
		p.cfg.Logger.Warn("pool is full",
			"endpoint", p.target, "lane", l.name, "connections", c.active, "streams", c.running)
	}
	for _, s := range *l.slots.Load() {
		most := p.cfg.MaxStreamsPerConnection
		capped := most > 0 && int(s.limit.Load()) >= most
		if !s.has(flagMask) && !capped && s.running() >= int(s.limit.Load()) && s.wire.announced.Load() == 0 {
			s.wire.raise()
		}
	}
}

// undrain takes back a connection that drains for want of load.
func (p *Pool) undrain(l *lane) bool {
	for _, s := range p.slots {
		unneeded := s.drainedFor == closeIdle || s.drainedFor == closeLoad
		if s.lane == l && unneeded && !s.has(flagDown|flagEjected) && s.undrain() {
			s.drainedAt = time.Time{}
			p.counters.undrained.Add(1)
			l.publish()
			return true
		}
	}
	return false
}

// due returns the slot to replace: one that is past its age, or that stopped
// answering. One goes after the other, so the last has to be closed; IDs, and
// the labels made of them, stay few.
func (p *Pool) due(l *lane, now time.Time, soonest func(time.Time)) *slot {
	if slices.ContainsFunc(p.slots, func(s *slot) bool { return s.closing }) {
		return nil
	}
	for _, s := range *l.slots.Load() {
		switch {
		case s.replacing:
		case s.health.sick:
			return s
		case s.expires.IsZero():
		case !now.Before(s.expires):
			return s
		default:
			soonest(s.expires)
		}
	}
	return nil
}

// shrink drains what is not needed: connections that had nothing to do for the
// idle timeout, and one for each idle timeout of low load.
func (p *Pool) shrink(now time.Time) {
	for _, l := range p.lanes {
		c := l.census()
		if c.running < c.capacity {
			l.pinned = false
		}
		active := *l.slots.Load()
		for _, s := range active {
			if u := s.uses(); s.running() > 0 || u != s.idleUses {
				s.idleUses, s.idleSince = u, now
			}
		}
		if p.cfg.IdleTimeout < 0 || c.active <= l.min {
			l.lowSince = time.Time{}
			continue
		}
		for i := len(active) - 1; i >= 0 && c.active > l.min; i-- { // the youngest first
			if s := active[i]; now.Sub(s.idleSince) >= p.cfg.IdleTimeout && !s.has(flagDown) {
				p.drain(s, closeIdle, now)
				c.active--
			}
		}
		p.shrinkLow(l, now)
	}
}

// shrinkLow drains the least used connection once the load would have fitted
// the others, with room to spare, for the whole idle timeout.
func (p *Pool) shrinkLow(l *lane, now time.Time) {
	c := l.census()
	var least *slot
	for _, s := range *l.slots.Load() {
		if !s.has(flagMask) && (least == nil || s.running() <= least.running()) {
			least = s
		}
	}
	low := least != nil && c.active > l.min && c.active > 1 &&
		float64(c.running) <= 0.75*targetUtilization*float64(c.capacity-int(least.limit.Load()))
	switch {
	case !low:
		l.lowSince = time.Time{}
	case l.lowSince.IsZero():
		l.lowSince = now
	case now.Sub(l.lowSince) >= p.cfg.IdleTimeout:
		l.lowSince = now
		p.drain(least, closeLoad, now)
	}
}

// reclaim ends the streams that cleanups noted.
func (p *Pool) reclaim(now time.Time, soonest func(time.Time)) {
	if p.cfg.Abandoned != Reclaim {
		return
	}
	p.noteMu.Lock()
	notes := p.notes
	p.notes = nil
	p.noteMu.Unlock()
	for _, c := range notes {
		if c.done.Load() {
			continue
		}
		p.counters.abandoned.Add(1)
		if !p.noted {
			p.noted = true
			p.cfg.Logger.Warn("a stream was dropped without an end: read it to io.EOF, or cancel its context; logged once",
				"endpoint", p.target)
		}
		if c.desc.ClientStreams && c.closeSent.Load() {
			p.wg.Go(func() { c.readOut() })
		} else {
			c.cancel(errAbandoned)
		}
	}
	p.reclaiming.Store(false) // a stream that is counted from here on sets it again
	for _, s := range p.slots {
		if s.running() > 0 {
			p.reclaiming.Store(true)
			soonest(now.Add(abandonedCheck))
			return
		}
	}
}

// readOut lets the server finish what it was sent in full: cancelling would
// abort its work. Any message parses as this small one, unknown fields and all.
func (c *call) readOut() {
	defer c.cancel(errAbandoned)
	stop := time.AfterFunc(abandonedGrace, func() { c.cancel(errAbandoned) })
	defer stop.Stop()
	var err error
	for err == nil {
		err = c.inner.RecvMsg(new(healthpb.HealthCheckResponse))
		if err == nil && !c.desc.ServerStreams {
			break
		}
	}
	c.end(err)
}

const abandonedGrace = 30 * time.Second
