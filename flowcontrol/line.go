package flowcontrol

import (
	"container/heap"
	"container/list"
	"time"
)

const forever = int64(1<<63 - 1)

// lookahead is how many waiting calls that do not fit a walk goes past. It
// bounds the cost of a release; behind so many, a small call waits its turn.
const lookahead = 64

// The classes of waiting calls.
const (
	ordered = iota // served in order of arrival
	codel          // have a deadline: dropped early, and under standing overload served newest first
	classes
)

// A waiter is one call that waits, for whatever it is. It is guarded by the
// gate's lock; its caller reads the answer once ready was sent on.
type waiter struct {
	request
	key      string
	ready    chan struct{} // has room for one, and there is only one
	seq      uint64        // its place in the order of arrival
	since    int64
	until    int64 // its context's deadline; forever = none
	patient  bool  // it is not to be rejected early
	level    int
	class    int
	tokens   Cost   // in line.ahead
	own      Cost   // in tenant.ahead
	passes   int    // how many have overtaken it
	holding  Reason // why it did not go, when the walk of that number looked
	walk     uint64
	lane     *lane
	element  *list.Element // nil: it does not wait
	measured bool          // its wait counts in Stats

	// look is when its time may be up, if what holds it back is still of the
	// kind that it was from lookSince on; forever = never.
	look, lookSince int64
	lookKind        kind
	lookIndex       int // in line.looks; -1 = not there

	// The answer: a permit, or the facts of a rejection.
	permit   Permit
	rejected Error
}

// A kind is what a call waits for, as far as bounding its wait goes.
type kind uint8

const (
	forRoom kind = iota
	forTokens
	forFraction
)

func (r Reason) kind() kind {
	switch r {
	case ReasonFraction:
		return forFraction
	case ReasonRate, ReasonTenantRate:
		return forTokens
	}
	return forRoom
}

// A line holds every call that waits, in the order of service: by priority, and
// within one by arrival. There is no goroutine: whatever changes the gate walks
// the line, and one timer does so when time alone changes something.
type line struct {
	length    int
	queues    [levels][classes]queue
	ahead     [levels]Cost // the tokens that the waiters of each level will take
	arrivals  uint64
	turn      int // the class that was served last under standing overload
	lastEmpty int64
	lastDrop  int64
	dropped   bool // ever
	standing  bool // overload that does not pass by itself
	looks     looks

	// Of the latest walk:
	walks   uint64
	ended   Reason    // why it came no further; ReasonNone = it saw everything
	skipped []*waiter // those that it has gone past for their size
	wakeAt  int64     // when time alone lets somebody go

	timer *time.Timer // made when first needed, so that a gate at rest has none
	armed int64       // when it fires; forever = it is stopped
}

// each calls f with every waiter.
func (l *line) each(f func(*waiter)) {
	for level := range l.queues {
		for class := range l.queues[level] {
			for _, lane := range l.queues[level][class].lanes {
				for e := lane.waiters.Front(); e != nil; e = e.Next() {
					f(e.Value.(*waiter))
				}
			}
		}
	}
}

// barred reports whether somebody of that level or above may not be overtaken.
func (l *line) barred(level, passes int) bool {
	n := 0
	for _, w := range l.skipped {
		if w.level > level {
			break
		}
		if n++; w.passes >= passes || n >= lookahead {
			return true
		}
	}
	return false
}

// overtake counts an admission against those of that level or above that were
// there before and do not fit yet.
func (l *line) overtake(level int) {
	for _, w := range l.skipped {
		if w.level > level {
			return
		}
		w.passes++
	}
}

// next returns the next waiter in the order of service, or nil.
func (l *line) next() *waiter {
	for level := range l.queues {
		o, c := l.queues[level][ordered].peek(), l.queues[level][codel].peek()
		switch {
		case o == nil && c == nil:
			continue
		case o == nil:
			return c
		case c == nil:
			return o
		case l.standing: // in turns
			if l.turn == ordered {
				return c
			}
			return o
		case o.seq < c.seq:
			return o
		}
		return c
	}
	return nil
}

func (l *line) queue(w *waiter) *queue { return &l.queues[w.level][w.class] }

// joinLocked puts w at the end of its priority.
func (t *Throttler) joinLocked(w *waiter) {
	l := &t.line
	t.advanceLocked()
	if l.length == 0 {
		l.lastEmpty = t.nowLocked()
	}
	l.length++
	if w.seq == 0 {
		l.arrivals++
		w.seq = l.arrivals
	}
	w.tokens = t.buckets.most(w.cost)
	l.ahead[w.level] = l.ahead[w.level].Add(w.tokens)
	w.class = ordered
	if w.hurried() && !t.cfg.Queue.InOrder {
		w.class = codel
	}
	q := l.queue(w)
	places := &t.tenants.rest.lanes
	if w.tenant != nil {
		places = &w.tenant.lanes
		w.tenant.waiting++
		w.own = w.tenant.rates.most(w.cost)
		w.tenant.ahead[w.level] = w.tenant.ahead[w.level].Add(w.own)
	}
	if places[w.level][w.class] == nil {
		places[w.level][w.class] = &lane{index: -1}
	}
	w.lane = places[w.level][w.class]
	w.element = w.lane.waiters.PushBack(w)
	q.move(w.lane, q.first(w.lane))
	w.lookIndex = -1
}

// leaveLocked takes w out of the line.
func (t *Throttler) leaveLocked(w *waiter) {
	l := &t.line
	t.advanceLocked()
	q, at := l.queue(w), w.lane.next
	if at == w.element {
		at = q.after(w.element)
	}
	w.lane.waiters.Remove(w.element)
	w.element = nil
	if w.lane.touched || at != nil {
		q.move(w.lane, at)
	} else {
		q.move(w.lane, q.first(w.lane))
	}
	if w.tenant != nil {
		w.tenant.waiting--
		w.tenant.ahead[w.level] = w.tenant.ahead[w.level].minus(w.own)
	}
	l.ahead[w.level] = l.ahead[w.level].minus(w.tokens)
	if w.lookIndex >= 0 {
		heap.Remove(&l.looks, w.lookIndex)
	}
	if l.length--; l.length == 0 {
		l.lastEmpty = t.nowLocked()
	}
}

// admitWaiterLocked and rejectWaiterLocked end w's wait with an answer.
func (t *Throttler) admitWaiterLocked(w *waiter) {
	t.leaveLocked(w)
	if t.cfg.Mode != Off {
		w.permit = t.admitLocked(&w.request)
	}
	t.answerLocked(w)
}

func (t *Throttler) rejectWaiterLocked(w *waiter, v verdict) {
	t.leaveLocked(w)
	w.rejected = t.rejectLocked(&w.request, v)
	t.answerLocked(w)
}

func (t *Throttler) answerLocked(w *waiter) {
	if w.measured {
		t.waits.end(t.nowLocked(), w.since)
	}
	w.ready <- struct{}{}
}

// walkLocked admits every waiter that may go, and sets the timer. It is called
// after every change.
func (t *Throttler) walkLocked() {
	t.passLocked()
	t.armLocked()
}

// passLocked goes along the line once, in the order of service. It ends at what
// holds everything back, where somebody has been overtaken often enough, and
// after lookahead waiters that do not fit.
func (t *Throttler) passLocked() {
	l := &t.line
	l.walks++
	l.skipped, l.wakeAt, l.ended = l.skipped[:0], forever, ReasonNone
	if l.length > 0 {
		t.standingLocked()
		for w := l.next(); w != nil && l.ended == ReasonNone; w = l.next() {
			t.walkToLocked(w)
		}
		for level := range l.queues {
			l.queues[level][ordered].restart()
			l.queues[level][codel].restart()
		}
	}
}

// walkToLocked admits w, or goes past it, or ends the walk there.
func (t *Throttler) walkToLocked(w *waiter) {
	l, q := &t.line, t.line.queue(w)
	v := verdict{}
	if t.enforcesLocked() {
		v = t.decideLocked(&w.request, l.length)
	}
	switch v.reason {
	case ReasonNone:
		l.turn = w.class
		l.overtake(w.level)
		t.admitWaiterLocked(w)
		if l.barred(levels, t.cfg.Queue.Passes) {
			l.ended = ReasonInFlight
		}
		return
	case ReasonOversized:
		v.after = int64(Never)
		t.rejectWaiterLocked(w, v)
		return
	}
	w.holding, w.walk = v.reason, l.walks
	if v.after > 0 {
		l.wakeAt = min(l.wakeAt, t.nowLocked()+v.after)
	}
	switch {
	case v.all:
		l.ended = v.reason
	case v.reason == ReasonShare:
		l.wakeAt = min(l.wakeAt, t.tenants.counted+tenantWindow)
		q.skipLane(w)
	case v.reason == ReasonTenantRate:
		q.skipLane(w)
	default:
		l.skipped = append(l.skipped, w)
		q.skip(w)
		if l.barred(levels, t.cfg.Queue.Passes) {
			l.ended = v.reason
		}
	}
}

// enforcesLocked reports whether the gate makes anything wait at all.
func (t *Throttler) enforcesLocked() bool {
	return t.cfg.Mode == Enforce || t.cfg.Mode == EnforceUnderPressure
}

// standingLocked finds out whether overload is standing: the line has not been
// empty for an interval, or somebody waited too long within the last one. The
// second keeps it standing where room comes free in bursts that empty the line.
func (t *Throttler) standingLocked() {
	l, interval := &t.line, int64(t.cfg.Queue.Interval)
	now := t.nowLocked()
	standing := l.length > 0 && now-l.lastEmpty > interval || l.dropped && now-l.lastDrop <= interval
	if standing == l.standing {
		return
	}
	l.standing = standing
	for level := range l.queues {
		q := &l.queues[level][codel]
		q.turnAround(standing)
		for _, lane := range q.lanes {
			for e := lane.waiters.Front(); e != nil; e = e.Next() {
				t.setLookLocked(e.Value.(*waiter))
			}
		}
	}
}

// hurried reports whether w is better rejected early than served late.
func (w *waiter) hurried() bool { return w.until != forever && !w.patient }

// kindLocked is what w waits for, by the latest walk.
func (t *Throttler) kindLocked(w *waiter) kind {
	switch walks := t.line.walks; {
	case w.walk == walks:
		return w.holding.kind()
	case w.lane.walk == walks:
		return w.lane.holding.kind()
	}
	return t.line.ended.kind()
}

// patienceLocked is how long w may wait for something of that kind; forever
// where the kind does not bound it.
func (t *Throttler) patienceLocked(w *waiter, k kind) int64 {
	if !w.hurried() {
		return forever
	}
	left := max(w.until-w.lookSince, 16)
	switch {
	case k == forRoom && w.class == codel && t.line.standing:
		return min(left/8, int64(t.cfg.Queue.Target))
	case k == forRoom && w.class == codel:
		return min(left/8, int64(t.cfg.Queue.Interval))
	case k == forRoom:
		return left / 2
	case k == forFraction && w.class == codel:
		return left / 16
	}
	return forever
}

// setLookLocked puts into the heap when w's time may be up. What waits for
// tokens is looked at now and then too: it may come to wait for room.
func (t *Throttler) setLookLocked(w *waiter) {
	look := t.patienceLocked(w, w.lookKind)
	if look == forever && w.hurried() {
		look = max((w.until-w.lookSince)/8, int64(time.Millisecond))
	}
	if look != forever {
		look += w.lookSince
	}
	if t.cfg.MaxWait > 0 {
		look = min(look, w.since+int64(t.cfg.MaxWait))
	}
	l := &t.line
	w.look = look
	switch {
	case look == forever && w.lookIndex >= 0:
		heap.Remove(&l.looks, w.lookIndex)
	case look != forever && w.lookIndex < 0:
		heap.Push(&l.looks, w)
	case look != forever:
		heap.Fix(&l.looks, w.lookIndex)
	}
}

// dropLocked rejects those whose time is up, and reports whether there were any.
func (t *Throttler) dropLocked() (dropped bool) {
	l, now := &t.line, t.nowLocked()
	for len(l.looks) > 0 && l.looks[0].look <= now {
		w := l.looks[0]
		kind := t.kindLocked(w)
		switch {
		case t.cfg.MaxWait > 0 && now-w.since >= int64(t.cfg.MaxWait):
			t.rejectWaiterLocked(w, verdict{reason: ReasonMaxWait})
		case kind != w.lookKind || t.patienceLocked(w, kind) == forever:
			w.lookKind, w.lookSince = kind, now
			t.setLookLocked(w)
			continue
		case kind == forFraction:
			t.rejectWaiterLocked(w, verdict{reason: ReasonFraction})
		default:
			if w.class == codel {
				l.lastDrop, l.dropped = now, true
			}
			t.rejectWaiterLocked(w, verdict{reason: ReasonQueueTimeout})
		}
		dropped = true
	}
	return dropped
}

// settleLocked admits those that may go, rejects those whose time is up, and
// again while that changes anything.
func (t *Throttler) settleLocked() {
	t.passLocked()
	for t.dropLocked() {
		t.passLocked()
	}
	t.armLocked()
}

// armLocked sets the timer to the earliest moment at which time alone helps.
func (t *Throttler) armLocked() {
	l := &t.line
	at := forever
	if l.length > 0 {
		at = l.wakeAt
		if len(l.looks) > 0 {
			at = min(at, l.looks[0].look)
		}
	}
	switch {
	case at == l.armed:
	case at == forever:
		l.timer.Stop()
	case l.timer == nil:
		l.timer = time.AfterFunc(time.Duration(at-t.nowLocked()), t.tick)
	default:
		l.timer.Reset(time.Duration(at - t.nowLocked()))
	}
	l.armed = at
}

// tick is the timer's.
func (t *Throttler) tick() {
	t.lock()
	defer t.mu.Unlock()
	t.line.armed = forever
	t.advanceLocked()
	t.settleLocked()
}
