package connpool

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// learnState is what the worker knows of a slot's stream limit.
type learnState struct {
	limit   atomic.Int32 // the server's own; 0 = not reached yet
	forget  atomic.Bool  // set by the watcher: the next transport may go elsewhere
	last    wireCount
	stuck   int       // looks in a row without progress
	probeAt time.Time // when the limit may be tried once more
}

// assumed is what a slot is thought to carry.
func (s *slot) assumed() int {
	if n := int(s.learn.limit.Load()); n > 0 {
		return n
	}
	if n := int(s.lane.pool.hint.Load()); n > 0 {
		return n
	}
	return s.assumption
}

// lookAfterWaiting learns limits. An attempt waits a moment in each call, so a
// limit is believed only after two looks without any progress on a ready
// transport; what was stuck behind it is taken back and goes elsewhere.
func (p *Pool) lookAfterWaiting(now time.Time, soonest func(time.Time)) {
	if !p.watching.Load() {
		return
	}
	if now.Before(p.lookAt) {
		soonest(p.lookAt)
		return
	}
	p.lookAt = now.Add(waitingCheck)
	waiting := false
	p.watching.Store(false) // an attempt that begins from here on sets it again
	for _, s := range p.slots {
		waiting = p.look(s, now) || waiting
	}
	if waiting {
		p.watching.Store(true)
		soonest(p.lookAt)
	}
}

func (p *Pool) look(s *slot, now time.Time) (waiting bool) {
	l := &s.learn
	if l.forget.Swap(false) {
		l.limit.Store(0)
		p.hint.Store(0)
		s.assumption = AssumedStreamLimit
		s.setLimit(s.assumption)
	}
	c, last := s.wire.count(), l.last
	l.last = c
	if learned := int(l.limit.Load()); learned > 0 && c.onWire > learned { // it was raised
		l.limit.Store(0)
		p.hint.Store(0)
		s.assumption = max(AssumedStreamLimit, 2*c.onWire)
		s.setLimit(s.assumption)
	}
	if c.waiting == 0 {
		l.stuck = 0
		return false
	}
	if s.cc.GetState() != connectivity.Ready || c.onWire == 0 ||
		last.waiting == 0 || c.progress != last.progress || c.transport != last.transport {
		l.stuck = 0
		return true
	}
	if l.stuck++; l.stuck < 2 {
		return true
	}
	if old := l.limit.Swap(int32(c.onWire)); int(old) != c.onWire {
		p.cfg.Logger.Info("server's stream limit learned", "endpoint", p.target, "id", s.id, "limit", c.onWire)
	}
	p.hint.Store(int32(c.onWire))
	l.probeAt = now.Add(probeInterval)
	s.setLimit(c.onWire)
	p.takeBack(s)
	return true
}

// takeBack sends elsewhere what waits on a slot and has sent nothing.
func (p *Pool) takeBack(s *slot) {
	var calls []*call
	s.each(func(c *call) bool {
		calls = append(calls, c)
		return true
	})
	for _, c := range calls {
		if c.takeBack() {
			p.counters.moved.Add(1)
		}
	}
}

// grow opens a connection where one is due: to the minimum, beyond the target
// utilisation, for those who wait, or to replace one.
func (p *Pool) grow(now time.Time, soonest func(time.Time)) {
	for _, l := range p.lanes { // who has nothing comes before who wants more
		if l.waiting.Load() > 0 && !l.reachable() {
			p.growLane(l, now, soonest)
		}
	}
	for _, l := range p.lanes {
		p.growLane(l, now, soonest)
	}
	p.forgetFailure(now, soonest)
}

// forgetFailure is for the dial that failed, and that nobody wants any more: it
// must not be why calls are refused when a connection is lost much later.
func (p *Pool) forgetFailure(now time.Time, soonest func(time.Time)) {
	switch {
	case p.failures == 0 || p.dialing != nil:
	case now.Before(p.retry.next):
		soonest(p.retry.next)
	default:
		for _, l := range p.lanes {
			l.failure.Store(nil)
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
	reason := ScaleReason("")
	switch {
	case c.active < l.min:
		reason = UpMinimum
	case waiting && (c.healthy == 0 || c.running >= c.capacity):
		reason = UpWaiting
	case c.capacity > 0 && float64(c.running) >= p.cfg.TargetUtilization*float64(c.capacity):
		reason = UpLoad
	}
	l.setHigh(c, reason != "")
	if reason != "" && c.active >= l.max {
		p.full(l, c, now, soonest)
		reason = ""
	}
	if reason != "" && c.active > 0 && p.undrain(l) {
		p.wake() // look again: one may not be enough
		return
	}
	if p.dialing != nil {
		return
	}
	d := dialing{lane: l, reason: reason}
	if reason == "" {
		if d.replace = p.due(l, now, soonest); d.replace == nil {
			return
		}
		d.reason = UpReplace
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
// least slack/n of them. A lane that is due already wakes nobody: a dial's end
// or a timer does.
func (l *lane) setHigh(c census, due bool) {
	slots := *l.slots.Load()
	room := 0
	for _, s := range slots {
		if s.load() != noRoom {
			room++
		}
	}
	slack := int(math.Ceil(l.pool.cfg.TargetUtilization*float64(c.capacity))) - c.running
	for _, s := range slots {
		if due {
			s.high.Store(math.MaxUint32)
		} else {
			s.high.Store(uint32(s.running() + max(1, slack/max(room, 1))))
		}
	}
}

// full does what is left when a lane is at its maximum and full: limits that are
// only assumed are raised, learned ones tried once more now and then. A call
// that gets stuck on the attempt is taken back.
func (p *Pool) full(l *lane, c census, now time.Time, soonest func(time.Time)) {
	if c.running < c.capacity || c.healthy == 0 {
		return
	}
	if !l.pinned {
		l.pinned = true
		p.cfg.Logger.Warn("pool is full", "endpoint", p.target, "lane", l.name, "connections", c.active, "streams", c.running)
	}
	for _, s := range *l.slots.Load() {
		if s.has(flagMask) || p.cfg.MaxStreamsPerConnection > 0 && int(s.limit.Load()) >= p.cfg.MaxStreamsPerConnection {
			continue
		}
		switch learned := int(s.learn.limit.Load()); {
		case learned == 0 && s.running() >= int(s.limit.Load()) && p.hint.Load() > 0:
			s.setLimit(int(s.limit.Load()) + 1) // what another showed holds here too, or not
		case learned == 0 && s.running() >= int(s.limit.Load()):
			s.assumption = 2 * int(s.limit.Load())
			s.setLimit(s.assumption)
		case learned > 0 && !now.Before(s.learn.probeAt):
			s.learn.probeAt = now.Add(probeInterval)
			s.setLimit(learned + 1)
			soonest(now.Add(probeInterval))
		case learned > 0:
			soonest(s.learn.probeAt)
		}
	}
}

// undrain takes back a connection that drains for want of load.
func (p *Pool) undrain(l *lane) bool {
	for _, s := range p.slots {
		wanted := s.drainedFor == DownIdle || s.drainedFor == DownLoad
		if s.lane == l && wanted && !s.has(flagDown|flagEjected) && s.undrain() {
			s.drainedAt = time.Time{}
			p.counters.scaled(UpUndrain)
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
				p.drain(s, DownIdle, now)
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
		float64(c.running) <= 0.75*p.cfg.TargetUtilization*float64(c.capacity-int(least.limit.Load()))
	switch {
	case !low:
		l.lowSince = time.Time{}
	case l.lowSince.IsZero():
		l.lowSince = now
	case now.Sub(l.lowSince) >= p.cfg.IdleTimeout:
		l.lowSince = now
		p.drain(least, DownLoad, now)
	}
}

// reclaim ends the streams that cleanups noted.
func (p *Pool) reclaim(now time.Time, soonest func(time.Time)) {
	if !p.reclaims() {
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
			p.cfg.Logger.Warn("a stream was dropped without an end: read it to io.EOF, or cancel its context; said once", "endpoint", p.target)
		}
		if c.desc.ClientStreams && c.closeSent.Load() {
			p.wg.Go(func() { c.readOut() })
		} else {
			c.cancel(errAbandoned)
		}
	}
	for _, s := range p.slots {
		if s.running() > 0 {
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
