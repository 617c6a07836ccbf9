package connpool

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// A slot's word holds its state, its running calls and its uses.
//
// They share one word because each decision needs both: a call may enter only if
// no flag is set at the moment at which it is counted, and the last call to leave
// a draining connection closes it only if none entered in that moment. With a
// flag beside a counter there is always an order of steps in which a call enters
// a connection that is being closed, and fails with "client connection is
// closing". Every change is one compare-and-swap, and the undo of an entry is an
// ordinary release, so that it too closes what it leaves empty.
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

// A slot is one connection of a lane, from its successful dial to its close:
//
//	          down, ejected                 last call leaves
//	ready <-----------------> no new calls  draining -----------> closed
//	  |                          |             ^                  (final)
//	  +--------------------------+-------------+
//	     idle, low load, age, lost, shutdown      undrain: back, unless closed
//
// Calls enter and leave; the watcher sets and clears down, health checks ejected;
// the worker alone drains, takes back and closes.
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

	mu    sync.Mutex // guards calls; neither picks nor Stats take it
	calls list.List  // of *call, the oldest first

	// What follows belongs to the pool's worker.
	drainedAt  time.Time // since when it drains
	drainedFor closeReason
	emptySince time.Time // since when it is closed, but for an attempt that is ending
	idleSince  time.Time // since when no call ran and none came
	idleUses   uint64
	replacing  bool // a successor is being opened
	closing    bool
	lost       atomic.Pointer[lostCause] // set by its watcher
	health     healthState
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

// release gives the place back. The last call to leave a draining slot retires it.
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

// state names what the word says, as ConnStats.State documents.
func (s *slot) state() string {
	switch w := s.word.Load(); {
	case w&flagClosed != 0:
		return "closed"
	case w&flagDraining != 0:
		return "draining"
	case w&flagEjected != 0:
		return "ejected"
	case w&flagDown != 0:
		return "connecting"
	}
	return "ready"
}

// setLimit sets how many calls the slot may carry. A server may allow none.
func (s *slot) setLimit(n int) {
	if c := s.lane.pool.cfg.MaxStreamsPerConnection; c > 0 {
		n = min(n, c)
	}
	n = min(max(n, 0), maxStreams)
	if old := int(s.limit.Swap(uint32(n))); n == old {
		return
	} else if n > old && s.lane.waiting.Load() > 0 {
		s.lane.grant()
	}
	s.lane.pool.wake()
}

func (s *slot) add(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.place = s.calls.PushBack(c)
	s.noteOldestLocked()
}

func (s *slot) remove(c *call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls.Remove(c.place)
	s.noteOldestLocked()
}

func (s *slot) noteOldestLocked() {
	oldest := int64(0)
	if first := s.calls.Front(); first != nil {
		oldest = first.Value.(*call).started
	}
	s.oldest.Store(oldest)
}

// longest is the age of the oldest running call.
func (s *slot) longest(now time.Time) time.Duration {
	oldest := s.oldest.Load()
	if oldest == 0 {
		return 0
	}
	return max(0, now.Sub(s.created)-time.Duration(oldest-1))
}

// runningCalls are those of the list, the oldest first.
func (s *slot) runningCalls() []*call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := make([]*call, 0, s.calls.Len())
	for e := s.calls.Front(); e != nil; e = e.Next() {
		calls = append(calls, e.Value.(*call))
	}
	return calls
}
