package connpool

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"
)

// How often the worker looks while there is something to look after.
const (
	abandonedCheck = time.Second // running streams that may be abandoned
	endGrace       = time.Minute // an attempt whose call is over has not ended
)

// A worker opens, drains and closes a pool's connections, in one pass at a time,
// so that no two decisions about the size of a pool race. A pass never blocks on
// the network: dials, checks and closes run beside it, and wake it with what they
// found. Its goroutine lives only while there is something to do, because a
// program may have hundreds of idle pools. The fields are the worker's own, but
// for wakeups and results.
type worker struct {
	wakeups atomic.Int64   // since the goroutine last had nothing to do; it runs while there are any
	timer   *time.Timer    // wakes it when something is due
	wg      sync.WaitGroup // all that it started

	resultMu sync.Mutex // guards results
	results  []func()   // what dials and checks found, for the next pass

	dialing  *dialing
	failures int // dials in a row
	shutting bool
	noted    bool // abandoned streams were logged
	maintain time.Time
}

// maintenance is how often sizes are reviewed downward.
func (p *Pool) maintenance() time.Duration {
	if p.cfg.IdleTimeout < 0 {
		return time.Minute
	}
	return max(p.cfg.IdleTimeout/4, time.Millisecond)
}

// wake makes the worker look at everything once more. It never blocks.
func (p *Pool) wake() {
	if p.wakeups.Add(1) == 1 {
		go p.work()
	}
}

// work makes passes until one has seen every wakeup. After the last, Close's,
// the count stays, so that no goroutine starts any more.
func (p *Pool) work() {
	for {
		seen := p.wakeups.Load()
		if p.ctx.Err() != nil {
			p.stop()
			close(p.stopped)
			return
		}
		for _, result := range p.takeResults() {
			result()
		}
		if next := p.pass(time.Now()); next.IsZero() {
			p.timer.Stop()
		} else {
			p.timer.Reset(max(time.Until(next), 0))
		}
		if p.wakeups.CompareAndSwap(seen, 0) {
			return
		}
	}
}

// post hands a result to the worker. It never blocks.
func (p *Pool) post(result func()) {
	p.resultMu.Lock()
	p.results = append(p.results, result)
	p.resultMu.Unlock()
	p.wake()
}

func (p *Pool) takeResults() []func() {
	p.resultMu.Lock()
	defer p.resultMu.Unlock()
	results := p.results
	p.results = nil
	return results
}

// pass does what is due and returns when something is due next; zero is never.
// The order matters: what is gone leaves the list first, so that no step counts
// it; lost connections drain before the lane grows, so that growing sees the room
// that they leave; and shrinking comes before growing, which may take back what
// was just drained, but never the other way round.
func (p *Pool) pass(now time.Time) (next time.Time) {
	soonest := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	p.sweep()
	if p.shut.Load() && !p.shutting {
		p.shutting = true
		for _, s := range p.slots {
			s.drain()
		}
	}
	p.dropLost(now)
	p.reclaim(now, soonest)
	p.retire(now, soonest)
	if p.shutting {
		if len(p.slots) == 0 { // a dial in flight is not needed: Close ends it
			select {
			case <-p.emptied:
			default:
				close(p.emptied)
			}
		}
		return next
	}
	if !now.Before(p.maintain) {
		p.shrink(now)
		p.maintain = now.Add(p.maintenance())
	}
	if len(p.slots) > 0 {
		soonest(p.maintain)
	}
	p.grow(now, soonest)
	p.checkHealth(now, soonest)
	return next
}

// stop closes everything, though calls run.
func (p *Pool) stop() {
	for _, l := range p.lanes {
		l.slots.Store(&[]*slot{})
		l.close()
	}
	p.timer.Stop()
	var wg sync.WaitGroup
	for _, s := range p.slots {
		s.drain()
		s.cancel()
		if !s.closing {
			wg.Go(func() { _ = s.cc.Close() })
		}
	}
	wg.Wait()
	p.wg.Wait()
	if d := p.dialing; d != nil && d.slot.cc != nil { // it was opened, and nobody was told
		_ = d.slot.cc.Close()
	}
	p.mu.Lock()
	for _, s := range p.slots {
		if !slices.Contains(p.gone, s) {
			p.closedUses += int64(s.uses())
		}
	}
	p.slots, p.gone = nil, nil
	p.mu.Unlock()
}

// publish makes the lane's snapshot anew: its slots that are not draining.
func (l *lane) publish() {
	var active []*slot
	for _, s := range l.pool.slots {
		if s.lane == l && !s.has(flagDraining) {
			active = append(active, s)
		}
	}
	l.slots.Store(&active)
	if l.waiting.Load() > 0 {
		l.grant()
	}
}

// watch follows a connection's state for as long as the slot lives.
func (p *Pool) watch(s *slot) {
	for {
		st := s.cc.GetState()
		switch st {
		case connectivity.Ready:
			s.word.And(^flagDown)
			if s.lane.waiting.Load() > 0 {
				s.lane.grant()
			}
		case connectivity.Idle:
			// The server sent GOAWAY, or went. Streams may still run on the old
			// transport. gRPC reconnects only when asked.
			s.word.Or(flagDown)
			if s.lane.reachable() && !s.pause(jitter(100*time.Millisecond)) {
				return
			}
			s.cc.Connect()
		case connectivity.TransientFailure:
			s.word.Or(flagDown)
			s.lost.Store(&lostCause{p.cause(s.ctx, s.cc)})
			p.wake()
		case connectivity.Connecting:
			s.word.Or(flagDown)
		case connectivity.Shutdown:
			return
		}
		p.wake()
		if !s.cc.WaitForStateChange(s.ctx, st) {
			return
		}
	}
}

// pause waits, unless the slot is being closed.
func (s *slot) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// dropLost drains the slots that could not get their transport back: dialing is
// the pool's affair, one at a time and with one backoff. What still runs on an
// old transport goes on, and what waits for a new one waits for the pool's.
func (p *Pool) dropLost(now time.Time) {
	for _, s := range p.slots {
		lost := s.lost.Swap(nil)
		if lost == nil || !s.has(flagDown) || s.has(flagDraining) {
			continue
		}
		p.drain(s, closeLost, now)
		s.takeBack()
		if !s.lane.reachable() && !p.shutting && !now.Before(p.retry.next) {
			p.failed(lost.err, now)
		}
	}
}

// drain takes a slot out of its lane.
func (p *Pool) drain(s *slot, reason closeReason, now time.Time) {
	if !s.drain() {
		return
	}
	p.counters.closed[reason].Add(1)
	p.cfg.Logger.Info("connection drains", "endpoint", p.target,
		"lane", s.lane.name, "id", s.id, "reason", reason.String(), "streams", s.running())
	s.drainedAt, s.drainedFor = now, reason
	s.lane.publish()
}

// retire closes the slots that have drained, and, past the deadline, those that
// have not.
func (p *Pool) retire(now time.Time, soonest func(time.Time)) {
	for _, s := range slices.Clone(p.slots) {
		if !s.has(flagDraining) || s.closing {
			continue
		}
		if s.drainedAt.IsZero() {
			s.drainedAt = now
		}
		forced := false
		switch {
		case s.has(flagClosed) && s.wire.open.Load() <= 0:
		case s.has(flagClosed):
			// Every call was given back, and an attempt is just ending: closing
			// now could put "connection is closing" in its place. Its end wakes us.
			if s.emptySince.IsZero() {
				s.emptySince = now
			}
			if soonest(s.emptySince.Add(endGrace)); now.Sub(s.emptySince) < endGrace {
				continue
			}
		case p.cfg.DrainDeadline > 0 && now.Sub(s.drainedAt) >= p.cfg.DrainDeadline:
			forced = true
		default:
			if p.cfg.DrainDeadline > 0 {
				soonest(s.drainedAt.Add(p.cfg.DrainDeadline))
			}
			continue
		}
		if forced {
			p.counters.drainsForced.Add(1)
			p.cfg.Logger.Warn("connection closed at its drain deadline",
				"endpoint", p.target, "id", s.id, "streams", s.running())
		}
		s.closing = true
		s.cancel()
		p.wg.Go(func() {
			_ = s.cc.Close()
			p.forget(s)
		})
	}
}

// forget drops a closed slot; its ID is free from here on.
func (p *Pool) forget(s *slot) {
	p.mu.Lock()
	p.closedUses += int64(s.uses())
	p.gone = append(p.gone, s)
	p.mu.Unlock()
	p.wake()
}

// sweep takes what forget dropped off the list.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.gone {
		p.slots = slices.DeleteFunc(slices.Clone(p.slots), func(o *slot) bool { return o == s })
	}
	p.gone = nil
}
