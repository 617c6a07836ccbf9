package connpool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// A slot's word holds its state, its running calls and its uses, so that
// "may I take it" and "is it the last one out" are one compare-and-swap each.
//
//	bits  0..19  calls that run
//	bits 20..23  flags; any of them keeps new calls away
//	bits 24..63  calls so far; they wrap around without touching the rest
const (
	maxStreams    = 1<<20 - 1
	countMask     = uint64(maxStreams)
	flagDown      = uint64(1) << 20 // the transport is not ready
	flagEjected   = uint64(1) << 21 // health checks failed
	flagDraining  = uint64(1) << 22 // no new calls, closed after the last
	flagClosed    = uint64(1) << 23 // drained; final
	flagMask      = flagDown | flagEjected | flagDraining | flagClosed
	useShift      = 24
	oneUse        = uint64(1) << useShift
	acquireChange = oneUse + 1
)

// A slot is one connection of a lane.
type slot struct {
	word  atomic.Uint64
	limit atomic.Uint32 // calls that it may carry now
	high  atomic.Uint32 // calls at which the worker looks whether to grow

	lane    *lane
	id      int
	cc      *grpc.ClientConn
	created time.Time
	expires time.Time // zero = never
	wire    wire
	ctx     context.Context // ends when the connection is being closed
	cancel  context.CancelFunc

	oldest atomic.Int64 // when the first call of the list started; 0 = none

	mu    sync.Mutex // guards the list of calls; not taken by picks, nor by Stats
	calls call       // sentinel of a ring

	// What follows belongs to the pool's worker.
	drainedAt  time.Time // since when it drains
	drainedFor ScaleReason
	emptySince time.Time // since when it is closed, but for an attempt that is ending
	idleSince  time.Time // since when no call ran and none came
	idleUses   uint64
	replacing  bool // a successor is being opened
	closing    bool
	lost       atomic.Pointer[lostCause] // set by its watcher
	health     healthState
	learn      learnState
	assumption int // limit while the server's own is unknown
}

type lostCause struct{ err error }

// tryAcquire takes one call's place. It fails when a flag is set or the slot is full.
func (s *slot) tryAcquire() bool {
	for {
		w := s.word.Load()
		if w&flagMask != 0 || w&countMask >= uint64(s.limit.Load()) {
			return false
		}
		if s.word.CompareAndSwap(w, w+acquireChange) {
			if w&countMask+1 >= uint64(s.high.Load()) {
				s.lane.pool.wake()
			}
			return true
		}
	}
}

// release gives the place back. Whoever takes the last call off a draining slot
// retires it.
func (s *slot) release() {
	w := s.word.Add(^uint64(0))
	for w&countMask == 0 && w&(flagDraining|flagClosed) == flagDraining {
		if s.word.CompareAndSwap(w, w|flagClosed) {
			s.lane.pool.wake()
			break
		}
		w = s.word.Load()
	}
	if s.lane.waiting.Load() > 0 {
		s.lane.grant()
	}
}

// drain keeps new calls away; an idle slot is retired on the spot.
func (s *slot) drain() (changed bool) {
	for {
		w := s.word.Load()
		if w&flagDraining != 0 {
			return false
		}
		n := w | flagDraining
		if w&countMask == 0 {
			n |= flagClosed
		}
		if s.word.CompareAndSwap(w, n) {
			return true
		}
	}
}

// undrain takes a draining slot back, unless its last call is gone already.
func (s *slot) undrain() bool {
	for {
		w := s.word.Load()
		if w&(flagDraining|flagClosed) != flagDraining {
			return false
		}
		if s.word.CompareAndSwap(w, w&^flagDraining) {
			return true
		}
	}
}

func (s *slot) running() int      { return int(s.word.Load() & countMask) }
func (s *slot) uses() uint64      { return s.word.Load() >> useShift }
func (s *slot) has(f uint64) bool { return s.word.Load()&f != 0 }

// state names what the word says.
func (s *slot) state() State {
	switch w := s.word.Load(); {
	case w&flagClosed != 0:
		return StateClosed
	case w&flagDraining != 0:
		return StateDraining
	case w&flagEjected != 0:
		return StateEjected
	case w&flagDown != 0:
		return StateConnecting
	}
	return StateReady
}

// setLimit sets what the slot may carry from what is known of its server.
func (s *slot) setLimit(n int) {
	cfg := &s.lane.pool.cfg
	if c := cfg.MaxStreamsPerConnection; c > 0 {
		n = min(n, c)
	}
	n = min(max(n, 1), maxStreams)
	old := s.limit.Swap(uint32(n))
	if n > int(old) && s.lane.waiting.Load() > 0 {
		s.lane.grant()
	}
}

func (s *slot) add(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.prev, c.next = s.calls.prev, &s.calls
	c.prev.next, c.next.prev = c, c
	if c.prev == &s.calls {
		s.oldest.Store(c.started)
	}
}

func (s *slot) remove(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.prev == &s.calls {
		s.oldest.Store(c.next.started) // that of the ring's own element is 0
	}
	c.prev.next, c.next.prev = c.next, c.prev
	c.prev, c.next = nil, nil
}

// longest is how long the call runs that runs longest.
func (s *slot) longest(now time.Time) time.Duration {
	oldest := s.oldest.Load()
	if oldest == 0 {
		return 0
	}
	return max(0, now.Sub(s.created)-time.Duration(oldest-1))
}

// each visits the running calls, oldest first, until visit returns false.
func (s *slot) each(visit func(*call) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := s.calls.next; c != &s.calls && visit(c); c = c.next {
	}
}
