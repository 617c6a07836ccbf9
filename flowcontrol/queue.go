package flowcontrol

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Discipline says how waiters for room in flight are ordered and dropped.
type Discipline uint8

const (
	// QueueAuto treats a call whose context has a deadline as QueueCoDel, and
	// any other as QueueInOrder: a request with a deadline is better refused
	// early than served late, and a stream is better slowed than broken.
	QueueAuto Discipline = iota
	// QueueInOrder serves in order of arrival and drops nothing that has time.
	QueueInOrder
	// QueueCoDel bounds the wait in time: by Interval, and once the queue has
	// not been empty for Interval, by Target, newest first.
	QueueCoDel
	disciplines
)

// QueueConfig configures the wait for room in flight. A call whose context has
// a deadline waits for a part of the time to it at most, half of it in order
// and an eighth under CoDel: admitted later, it would only be late.
type QueueConfig struct {
	// Discipline orders the queue. The zero value is QueueAuto.
	Discipline Discipline
	// Length is how many calls may wait. Zero means DefaultQueueLength,
	// negative that Acquire does not wait for room at all.
	Length int
	// Target bounds the wait under standing overload. Zero or negative means
	// DefaultQueueTarget.
	Target time.Duration
	// Interval is how long the queue must not have been empty for overload to
	// count as standing, and bounds the wait until then. Zero or negative
	// means DefaultQueueInterval.
	Interval time.Duration
	// Passes is how many smaller calls may pass a large one that does not fit
	// yet. Zero means DefaultQueuePasses, negative none.
	Passes int
}

func (q QueueConfig) withDefaults() QueueConfig {
	if q.Length == 0 {
		q.Length = DefaultQueueLength
	}
	if q.Target <= 0 {
		q.Target = DefaultQueueTarget
	}
	if q.Interval <= 0 {
		q.Interval = DefaultQueueInterval
	}
	if q.Passes == 0 {
		q.Passes = DefaultQueuePasses
	}
	return q
}

func (q QueueConfig) validate(bad func(field string, value any, want string)) {
	if q.Discipline >= disciplines {
		bad("Queue.Discipline", q.Discipline, "QueueAuto, QueueInOrder or QueueCoDel")
	}
	if q.Length > maxQueueLength {
		bad("Queue.Length", q.Length, fmt.Sprintf("at most %d", maxQueueLength))
	}
	if q.Target > q.Interval {
		bad("Queue.Target", q.Target, fmt.Sprintf("at most Queue.Interval (%v)", q.Interval))
	}
}

const maxQueueLength = 1 << 20

// A waiter is one call that waits for room. It is reused, with its channel.
type waiter struct {
	ready      chan struct{}
	next, prev *waiter
	cost       Cost
	key        *tenant
	since      int64
	level      int
	passed     int
	codel      bool
	queued     bool
	// The answer, written before ready is sent on.
	permit Permit
	reason Reason
}

// waiters is a list in order of arrival.
type waiters struct{ first, last *waiter }

func (q *queue) listOf(w *waiter) *waiters {
	if w.codel {
		return &q.levels[w.level].codel
	}
	return &q.levels[w.level].ordered
}

// allLocked calls visit for everyone who waits, until it returns false.
func (q *queue) allLocked(visit func(w *waiter) bool) {
	for level := range q.levels {
		for _, first := range []*waiter{q.levels[level].ordered.first, q.levels[level].codel.first} {
			for w := first; w != nil; w = w.next {
				if !visit(w) {
					return
				}
			}
		}
	}
}

// A queue holds the calls that wait for room in flight. There is no goroutine:
// whoever releases room hands it over, and every waiter keeps its own time.
type queue struct {
	owner   *Throttler
	waiting atomic.Int64

	mu        sync.Mutex
	levels    [levels]struct{ ordered, codel waiters }
	turn      bool // who was served last under standing overload
	lastEmpty int64
	lastDrop  int64
	dropped   bool // ever
	free      *waiter
}

// wait returns a permit for room of size c, waiting in the queue if it must.
func (t *Throttler) wait(ctx context.Context, s *settings, asked, c Cost, until int64, v *visit) (Permit, error) {
	var now int64
	if s.timed {
		now = t.read(v)
	}
	if t.queue.waiting.Load() == 0 {
		if p, reason, _ := t.enter(ctx, s, c, t.limit(s), now, v.home); reason == ReasonNone {
			return p, nil
		}
	}
	v.outdate()
	q := &t.queue
	w, err := q.join(ctx, s, c)
	if err != nil {
		return Permit{}, t.failed(s, asked, err, StageQueue)
	}
	began := w.since
	t.counters.waits.begin(began)
	defer t.counters.waits.end(t, began)
	var timeout <-chan time.Time
	limit, reason := until-began, ReasonMaxWait
	if w.codel {
		if most := int64(q.most(s, began)); most < limit {
			limit, reason = most, ReasonQueueTimeout
		}
	}
	deadline, bounded := hurried(ctx)
	if bounded {
		// Whoever is admitted at the last moment is late all the same: most of
		// the time is left for the work.
		most := int64(time.Until(deadline)) / 2
		if w.codel {
			most /= 4
		}
		if most < limit {
			limit, reason = max(most, 0), ReasonQueueTimeout
		}
	}
	if until != forever || w.codel || bounded {
		timer := time.NewTimer(time.Duration(limit))
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-w.ready:
	case <-timeout:
		if q.leave(w, true) {
			q.recycle(w)
			return Permit{}, t.refuse(s, asked, reason, StageQueue, Messages, 0)
		}
		<-w.ready // the answer came first
	case <-ctx.Done():
		if !q.leave(w, false) {
			<-w.ready
			if w.reason == ReasonNone {
				t.undo(w.permit) // room for one who is gone
			}
		}
		q.recycle(w)
		t.counters.refused[ReasonCanceled].Add(1)
		return Permit{}, ctx.Err()
	}
	p, answer := w.permit, w.reason
	q.recycle(w)
	if answer != ReasonNone {
		return Permit{}, t.refuse(s, asked, answer, StageQueue, Messages, 0)
	}
	return p, nil
}

// join puts the caller in the queue and gives room to whoever is next.
func (q *queue) join(ctx context.Context, s *settings, c Cost) (*waiter, error) {
	_, deadline := hurried(ctx)
	level := PriorityFrom(ctx).level()
	var key *tenant
	if s.cfg.MaxKeys > 0 {
		key = q.owner.tenants.of(KeyFrom(ctx), s.cfg.MaxKeys)
	}
	now := q.owner.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting.Load() >= int64(s.cfg.Queue.Length) {
		return nil, waitError(ReasonQueueFull)
	}
	w := q.free
	if w == nil {
		w = &waiter{ready: make(chan struct{}, 1)}
	} else {
		q.free = w.next
	}
	ready := w.ready
	*w = waiter{ready: ready, cost: c, key: key, since: now, level: level, queued: true}
	w.codel = s.cfg.Queue.Discipline == QueueCoDel || s.cfg.Queue.Discipline == QueueAuto && deadline
	if q.waiting.Load() == 0 {
		q.lastEmpty = now
	}
	l := q.listOf(w)
	w.prev = l.last
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	// Visible before the room is looked at again: a release either sees a
	// waiter, or is seen by this look.
	q.waiting.Add(1)
	q.grantLocked(s, now)
	return w, nil
}

// most is how long a waiter that arrives now may wait.
func (q *queue) most(s *settings, now int64) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.standingLocked(s, now) {
		return s.cfg.Queue.Target
	}
	return s.cfg.Queue.Interval
}

// standingLocked reports standing overload: the queue has not been empty for
// an interval, or somebody waited too long within the last one. The second
// keeps it standing where room comes free in bursts that empty the queue.
func (q *queue) standingLocked(s *settings, now int64) bool {
	interval := int64(s.cfg.Queue.Interval)
	return q.waiting.Load() > 0 && now-q.lastEmpty > interval || q.dropped && now-q.lastDrop <= interval
}

// leave takes w out of the queue; false means that it has its answer.
func (q *queue) leave(w *waiter, timedOut bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.queued {
		return false
	}
	now := q.owner.now()
	q.removeLocked(w, now)
	if w.codel && timedOut {
		q.lastDrop, q.dropped = now, true
	}
	q.grantLocked(q.owner.settings.Load(), now) // it may have been in the way
	return true
}

func (q *queue) recycle(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.permit, w.key, w.next = Permit{}, nil, q.free
	q.free = w
}

func (q *queue) removeLocked(w *waiter, now int64) {
	l := q.listOf(w)
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev, w.queued = nil, nil, false
	if q.waiting.Add(-1) == 0 {
		q.lastEmpty = now
	}
}
