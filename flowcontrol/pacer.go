package flowcontrol

import (
	"context"
	"math"
	"sync"
	"time"
)

// A pacer slows the waiting verb to a fraction f of its unthrottled
// throughput, whatever the work costs and however many workers there are.
//
// Unthrottled, everyone who wants to work does: n who work and w who wait, up
// to the in-flight limit. Throttled, the time that is worked should be f times
// that. So the pacer keeps the difference of the two integrals,
//
//	debt = ∫ (n - f * min(n + w, limit)) dt
//
// and admits the next caller when there is no debt and fewer than f times the
// possible number work. For one worker and items of d this is a rest of
// d*(1/f - 1) after each item; the service time is never estimated.
type pacer struct {
	owner *Throttler

	mu          sync.Mutex
	f           float64
	n           int     // callers admitted and not done
	debt        float64 // in caller-nanoseconds
	at          int64   // up to where debt is integrated
	lastWanted  float64 // how many wanted to work when last anyone did
	first, last *pacing
	waiting     int
	free        *pacing
	virtual     []int64 // starts of paced work that has no permit, oldest first
}

// A pacing is one caller that waits for the fraction.
type pacing struct {
	wake       chan struct{}
	next, prev *pacing
	admitted   bool
	virtual    bool
	paced      bool
}

const (
	// paceCredit is how much of a late timer is caught up with.
	paceCredit = float64(20 * time.Millisecond)
	// paceRest bounds the rest after work that took very long.
	paceRest = float64(30 * time.Second)
	// paceVirtual bounds the work that a Pace without a permit stands for.
	paceVirtual = int64(250 * time.Millisecond)
)

func (p *pacer) setFraction(f float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advanceLocked(p.owner.now())
	if p.f == 0 && !p.owner.sampler.engaged.Load() { // was open
		p.debt = 0
	}
	p.f = f
	p.owner.sampler.set(f)
	if f >= 1 {
		p.f, p.debt = 0, 0
		for p.first != nil {
			p.admitLocked(p.first, false)
		}
		p.n -= len(p.virtual)
		p.virtual = p.virtual[:0]
		return
	}
	p.kickLocked(nil)
}

// poke looks again after the limit changed.
func (p *pacer) poke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advanceLocked(p.owner.now())
	p.kickLocked(nil)
}

// done ends the work of a caller that was admitted.
func (p *pacer) done(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advanceLocked(now)
	p.n = max(0, p.n-1)
	p.kickLocked(nil)
}

// wanted is how many would work if there were no fraction.
func (p *pacer) wantedLocked() float64 {
	wanted := int64(p.n + p.waiting)
	if limit := p.owner.messageLimit(); limit >= 0 {
		wanted = min(wanted, limit)
	}
	return float64(wanted)
}

func (p *pacer) advanceLocked(now int64) {
	for len(p.virtual) > 0 && p.virtual[0]+paceVirtual <= now {
		p.integrateLocked(p.virtual[0] + paceVirtual)
		p.endVirtualLocked()
	}
	p.integrateLocked(now)
}

// endVirtualLocked ends the oldest work that has no permit.
func (p *pacer) endVirtualLocked() {
	p.virtual = p.virtual[:copy(p.virtual, p.virtual[1:])] // in place: reslicing would use the array up
	p.n = max(0, p.n-1)
}

func (p *pacer) integrateLocked(now int64) {
	dt := float64(now - p.at)
	if dt <= 0 {
		return
	}
	p.at = now
	wanted := p.wantedLocked()
	if wanted > 0 {
		p.lastWanted = wanted
	} else {
		wanted = p.lastWanted // nobody wants to: time off counts as rest
	}
	share := p.f * wanted
	p.debt += (float64(p.n) - share) * dt
	p.debt = min(max(p.debt, -share*paceCredit), share*paceRest)
}

// kickLocked admits whoever may go and has the next one look at its time,
// unless that is self, who is looking already.
func (p *pacer) kickLocked(self *pacing) {
	for p.first != nil && p.freeLocked() {
		p.admitLocked(p.first, true)
	}
	if p.first != nil && p.first != self {
		wake(p.first.wake)
	}
}

// freeLocked reports whether one more may work now.
func (p *pacer) freeLocked() bool {
	share := p.f * p.wantedLocked()
	switch n := float64(p.n); {
	case p.debt < -1: // behind: one more than the share catches up
		return n < share+1
	case p.debt <= 1:
		return n < share
	}
	return false
}

// dueLocked is how long until the first in line may go, by what is known now.
func (p *pacer) dueLocked(now int64) time.Duration {
	due := time.Duration(math.MaxInt64)
	if falling := p.f*p.wantedLocked() - float64(p.n); falling > 0 {
		due = time.Duration(min(math.Ceil(max(p.debt, 0)/falling), 1<<60))
	}
	if len(p.virtual) > 0 {
		due = min(due, time.Duration(p.virtual[0]+paceVirtual-now))
	}
	return max(due, 1)
}

func (p *pacer) admitLocked(g *pacing, paced bool) {
	p.unlinkLocked(g)
	g.admitted, g.paced = true, paced
	if paced {
		p.n++
		if g.virtual {
			p.virtual = append(p.virtual, p.at)
		}
	}
	wake(g.wake)
}

// passLocked admits a caller that finds nobody in line, if it may go at once.
func (p *pacer) passLocked(virtual bool) bool {
	p.waiting++ // it wants to work like any other
	free := p.freeLocked()
	p.waiting--
	if !free {
		return false
	}
	p.n++
	if virtual {
		p.virtual = append(p.virtual, p.at)
	}
	return true
}

func (p *pacer) unlinkLocked(g *pacing) {
	if g.prev == nil {
		p.first = g.next
	} else {
		g.prev.next = g.next
	}
	if g.next == nil {
		p.last = g.prev
	} else {
		g.next.prev = g.prev
	}
	g.next, g.prev = nil, nil
	p.waiting--
}

// wait returns when the caller may work. paced reports whether the pacer
// counts it, so that done must follow. A virtual caller needs no done: its
// next call ends its work.
func (p *pacer) wait(ctx context.Context, until int64, virtual bool, v *visit) (paced bool, err error) {
	now := p.owner.read(v)
	p.mu.Lock()
	if !p.owner.sampler.engaged.Load() { // opened since the caller looked: nobody would wake it
		p.mu.Unlock()
		return false, nil
	}
	p.advanceLocked(now)
	if virtual && len(p.virtual) > 0 {
		p.endVirtualLocked()
	}
	if p.first == nil && p.passLocked(virtual) {
		p.mu.Unlock()
		return true, nil
	}
	return p.lineUpAndUnlock(ctx, until, virtual, v, now)
}

// lineUpAndUnlock is wait for a caller that may not go at once.
func (p *pacer) lineUpAndUnlock(ctx context.Context, until int64, virtual bool, v *visit, now int64) (paced bool, err error) {
	g := p.free
	if g == nil {
		g = &pacing{wake: make(chan struct{}, 1)}
	} else {
		p.free = g.next
	}
	*g = pacing{wake: g.wake, virtual: virtual, prev: p.last}
	if p.last == nil {
		p.first = g
	} else {
		p.last.next = g
	}
	p.last = g
	p.waiting++
	p.kickLocked(g)
	if !g.admitted {
		v.outdate()
		p.owner.counters.pacing.Add(1)
		p.owner.counters.waits.begin(now)
		defer p.owner.counters.waits.end(p.owner, now)
		defer p.owner.counters.pacing.Add(-1)
	}
	var timer *time.Timer
	for !g.admitted && err == nil {
		now = p.owner.now()
		due := time.Duration(math.MaxInt64)
		if p.first == g {
			due = p.dueLocked(now)
		}
		var expired bool
		if left := time.Duration(until - now); until != forever && left <= due {
			due, expired = max(left, 0), true
		}
		p.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(due)
			defer timer.Stop()
		} else {
			timer.Reset(due)
		}
		select {
		case <-g.wake:
			expired = false
		case <-timer.C:
		case <-ctx.Done():
			err, expired = ctx.Err(), false
		}
		if expired {
			err = waitError(ReasonMaxWait)
		}
		p.mu.Lock()
		p.advanceLocked(p.owner.now())
		if err == nil {
			p.kickLocked(g)
		}
	}
	defer p.mu.Unlock()
	if g.admitted {
		paced = g.paced
		if err == nil || err == error(waitError(ReasonMaxWait)) {
			err = nil
		} else if paced { // admitted and cancelled at once: nothing happened
			if virtual {
				p.virtual = p.virtual[:max(0, len(p.virtual)-1)]
			}
			p.n = max(0, p.n-1)
			paced = false
		}
	} else {
		p.unlinkLocked(g)
	}
	if err != nil {
		p.kickLocked(nil)
	}
	select { // a reused channel starts empty
	case <-g.wake:
	default:
	}
	g.next, g.prev = p.free, nil
	p.free = g
	return paced, err
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
