package connpool

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A lane picks among its own slots. The pool's worker publishes them; calls
// only read.
type lane struct {
	pool     *Pool
	name     string
	min, max int

	slots   atomic.Pointer[[]*slot] // copy on write: those that are not draining
	cursor  atomic.Uint32
	waiting atomic.Int32 // calls in the queue, or on their way into it
	failure atomic.Pointer[failure]

	mu     sync.Mutex // guards queue and closed; held only for moves in memory
	queue  list.List  // of *waiter
	closed bool

	waits    atomic.Uint64
	waitTime atomic.Int64
	waitHist [waitBuckets]atomic.Uint64
	pinned   bool // worker: it is at its maximum and full, and said so
	lowSince time.Time
}

// A failure is why the lane has no healthy connection: the last attempt to
// connect failed, or the server says that it is not serving. It is forgotten at
// the next success.
type failure struct {
	err  error
	next time.Time
}

type waiter struct {
	answer   chan answer // buffered, and used once: answering never blocks
	patient  bool        // waits although no connection is healthy
	answered bool        // and out of the queue; guarded by the lane
}

// An answer is a place on a slot, or why there is none.
type answer struct {
	slot *slot
	err  error
}

// pick takes a place on a healthy slot that has room, or returns nil. It reads
// one snapshot and neither blocks nor allocates.
func (l *lane) pick() *slot {
	slots := *l.slots.Load()
	n := uint32(len(slots))
	if n == 0 {
		return nil
	}
	switch l.pool.cfg.Picker {
	case LeastLoaded:
		return l.pickLeast(slots, l.cursor.Add(1)%n)
	case PowerOfTwo:
		if n > 1 {
			draw := rand.Uint64() // one draw serves both
			i := uint32(draw >> 32 * uint64(n) >> 32)
			j := i + 1 + uint32(draw&math.MaxUint32*uint64(n-1)>>32)
			if j >= n {
				j -= n
			}
			a, b := slots[i], slots[j]
			if b.load().less(a.load()) {
				a, b = b, a
			}
			if a.tryAcquire() {
				return a
			}
			if b.tryAcquire() {
				return b
			}
		}
		return pickFrom(slots, 0)
	case FirstHealthy:
		return pickFrom(slots, 0)
	default:
		return pickFrom(slots, l.cursor.Add(1)%n)
	}
}

func pickFrom(slots []*slot, start uint32) *slot {
	for _, s := range slots[start:] {
		if s.tryAcquire() {
			return s
		}
	}
	for _, s := range slots[:start] {
		if s.tryAcquire() {
			return s
		}
	}
	return nil
}

func (l *lane) pickLeast(slots []*slot, start uint32) *slot {
	best, least := slots[start], slots[start].load()
	for i := 1; i < len(slots) && least.running > 0; i++ {
		k := int(start) + i
		if k >= len(slots) {
			k -= len(slots)
		}
		if load := slots[k].load(); load.less(least) {
			best, least = slots[k], load
		}
	}
	if best.tryAcquire() {
		return best
	}
	return pickFrom(slots, start)
}

// A load is the share of a slot's streams in use, as a fraction: comparing needs
// no division.
type load struct{ running, limit uint64 }

// noRoom is more than any other load.
var noRoom = load{1 << 30, 1}

func (a load) less(b load) bool { return a.running*b.limit < b.running*a.limit }

func (s *slot) load() load {
	w, limit := s.word.Load(), uint64(s.limit.Load())
	if w&flagMask != 0 || w&countMask >= limit {
		return noRoom
	}
	return load{w & countMask, limit}
}

var affinitySeed = maphash.MakeSeed()

// pickAffine takes a place on the slot that key belongs to (rendezvous hashing:
// a slot that goes takes only its own keys along), or on any other.
func (l *lane) pickAffine(key string) *slot {
	h := maphash.String(affinitySeed, key)
	var best *slot
	var top uint64
	for _, s := range *l.slots.Load() {
		if s.load() == noRoom {
			continue
		}
		if v := maphash.Comparable(affinitySeed, [2]uint64{h, uint64(s.id)}); best == nil || v > top {
			best, top = s, v
		}
	}
	if best != nil && best.tryAcquire() {
		return best
	}
	return l.pick()
}

// acquire returns a slot with a place taken, waiting for it as configured. A
// call that comes later never overtakes one that waits: where anything waits,
// every call goes through the queue, even when a place is free. A failed acquire
// leaves nothing behind.
//
// Why a call that comes later must queue even where a place is free: a place that
// is given back and taken by a newcomer in the same moment would let a steady
// stream of newcomers starve the queue. The price is one hand-over per call while
// anything waits, which is when the pool is full anyway.
func (l *lane) acquire(ctx context.Context, key string, patient bool) (*slot, error) {
	if l.waiting.Load() == 0 {
		var s *slot
		if key == "" {
			s = l.pick()
		} else {
			s = l.pickAffine(key)
		}
		if s != nil {
			return s, nil
		}
	}
	return l.wait(ctx, patient)
}

func (l *lane) wait(ctx context.Context, patient bool) (*slot, error) {
	p := l.pool
	if err := ctx.Err(); err != nil {
		return nil, l.expired(ctx, 0)
	}
	patient = patient || p.cfg.WaitForReady
	// The count goes up before the last look, and a release looks at the count
	// after it gave its place back: one of both sees the other.
	l.waiting.Add(1)
	l.mu.Lock()
	s, err := l.enterLocked(patient)
	if s != nil || err != nil {
		l.waiting.Add(-1)
		l.mu.Unlock()
		p.wake()
		return s, err
	}
	w := &waiter{answer: make(chan answer, 1), patient: patient}
	place := l.queue.PushBack(w)
	l.mu.Unlock()
	p.wake()

	began := time.Now()
	defer func() {
		took := time.Since(began)
		l.waits.Add(1)
		l.waitTime.Add(int64(took))
		l.waitHist[waitBucket(took)].Add(1)
	}()
	select {
	case a := <-w.answer:
		return a.slot, a.err
	case <-ctx.Done():
	}
	if !l.leave(place) { // it was answered in the same moment
		a := <-w.answer
		if a.err != nil {
			return nil, a.err
		}
		a.slot.release()
	}
	return nil, l.expired(ctx, time.Since(began))
}

// enterLocked gives a place or a rejection, or neither when the call is to queue.
//
// One rule, whether or not the lane has room for another connection: while no
// connection is healthy, a call waits only as long as the pool does not know why,
// or when it is patient. While one is healthy and full, it waits in the queue.
func (l *lane) enterLocked(patient bool) (*slot, error) {
	if l.closed {
		return nil, l.rejection(ReasonClosed, nil)
	}
	if l.queue.Len() == 0 {
		if s := l.pick(); s != nil {
			return s, nil
		}
	}
	if !l.reachable() {
		if !patient && l.failure.Load() != nil {
			return nil, l.rejection(ReasonUnreachable, nil)
		}
	} else if l.pool.cfg.QueueSize < 0 {
		return nil, l.rejection(ReasonSaturated, nil)
	}
	// Without a queue a call still waits for a connection that is being opened.
	most := l.pool.cfg.QueueSize
	if most < 0 {
		most = defaultQueue
	}
	if l.queue.Len() >= most {
		return nil, l.rejection(ReasonSaturated, nil)
	}
	return nil, nil
}

// leave takes a waiter out of the queue; false when it was answered already.
func (l *lane) leave(place *list.Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if place.Value.(*waiter).answered {
		return false
	}
	l.takeLocked(place)
	return true
}

// takeLocked takes a waiter out of the queue.
func (l *lane) takeLocked(place *list.Element) *waiter {
	w := l.queue.Remove(place).(*waiter)
	w.answered = true
	l.waiting.Add(-1)
	return w
}

// grant gives free places to the calls that wait, in order.
func (l *lane) grant() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.queue.Len() > 0 {
		s := l.pick()
		if s == nil {
			return
		}
		l.takeLocked(l.queue.Front()).answer <- answer{slot: s}
	}
}

// rejectWaiting rejects the calls that do not wait for a healthy connection, or,
// in a closed pool, all.
func (l *lane) rejectWaiting(reason Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := l.queue.Front(); e != nil; {
		next := e.Next()
		if w := e.Value.(*waiter); reason == ReasonClosed || !w.patient {
			l.takeLocked(e)
			w.answer <- answer{err: l.rejection(reason, nil)}
		}
		e = next
	}
}

// close rejects every call from now on.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.rejectWaiting(ReasonClosed)
}

// reachable reports whether any slot is healthy, full or not.
func (l *lane) reachable() bool {
	for _, s := range *l.slots.Load() {
		if !s.has(flagMask) {
			return true
		}
	}
	return false
}

// expired is the rejection of a call whose own context ended first.
func (l *lane) expired(ctx context.Context, waited time.Duration) *Error {
	reason := ReasonSaturated
	if !l.reachable() {
		reason = ReasonUnreachable
	}
	cause := ctx.Err()
	if own := context.Cause(ctx); own != cause { //nolint:errorlint // the same value
		cause = fmt.Errorf("%w: %w", cause, own)
	}
	e := l.rejection(reason, cause)
	e.Waited = waited
	return e
}

// rejection makes the lane's typed error, and counts it.
func (l *lane) rejection(reason Reason, cause error) *Error {
	e := &Error{Reason: reason, Endpoint: l.pool.target, Lane: l.name, Cause: cause}
	switch reason {
	case ReasonSaturated:
		if cause == nil {
			l.pool.counters.rejected[ReasonSaturated].Add(1)
		}
	case ReasonUnreachable:
		l.pool.counters.rejected[ReasonUnreachable].Add(1)
		if f := l.failure.Load(); f != nil {
			e.Cause = f.err
			if cause != nil {
				e.Cause = fmt.Errorf("%w; last error: %w", cause, f.err)
			}
			e.RetryAfter = max(time.Until(f.next), 0)
		}
	}
	return e
}
