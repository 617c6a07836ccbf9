package flowcontrol

import (
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
)

// A stripe is the part of a Throttler that one processor has mostly to itself.
// Processors that write to one cache line for each call cost each other more
// than all the rest of the gate; so a Throttler begins with one stripe, and
// gets two for each processor, which then seldom meet, once calls are seen to
// fight. What every call writes to stands in two lines. Rows and bytes are counted
// in one place for all.
type stripe struct {
	word   atomic.Uint64         // spare messages and free slots, see inflight
	draws  atomic.Uint64         // where the sampler's sequence stands
	credit [weights]atomic.Int64 // tokens already paid for by a lease
	owner  *Throttler
	hand   [hands]slot
	_      [16]byte // processors fetch lines in pairs
}

// hands is how many slots a stripe has at hand, which is what its lines have room
// for. Each can keep the one message that it was last held with, and so a
// permit for one message is one compare-and-swap, and its release is one more.
const hands = 2

func (s *stripe) init(owner *Throttler, draws uint64) {
	s.owner = owner
	s.draws.Store(draws)
	for i := range s.hand {
		s.hand[i].home = s
		s.hand[i].word.Store(bare)
	}
}

// has reports that n messages are there without a look at other stripes.
func (s *stripe) has(n int64) bool {
	if n == 1 {
		for i := range s.hand {
			if s.hand[i].word.Load()&stateMask == parked {
				return true
			}
		}
	}
	return n <= int64(s.word.Load()>>msgShift)
}

// strip takes up to n messages that are parked at hand.
func (s *stripe) strip(n int) (taken int64) {
	for i := range s.hand {
		for taken < int64(n) {
			word := s.hand[i].word.Load()
			if word&stateMask != parked {
				break
			}
			if s.hand[i].word.CompareAndSwap(word, word|bare) {
				taken++
			}
		}
	}
	return taken
}

// stripes are the stripes of one Throttler, one or a power of two.
type stripes struct {
	first *stripe
	more  atomic.Pointer[[]*stripe] // nil as long as there is one
	owner *Throttler
	seed  uint64
	fixed bool // never more: a seed that is set makes draws repeatable

	lost atomic.Int32 // calls that met another, as long as there is one stripe
	mu   sync.Mutex   // guards the making of more
}

const (
	fights     = 200 // lost before there are more stripes
	maxStripes = 64
)

func (s *stripes) init(owner *Throttler, seed uint64, fixed bool) {
	s.owner, s.seed, s.fixed, s.first = owner, seed, fixed, new(stripe)
	s.first.init(owner, seed)
}

// mine returns the stripe for a call of this moment.
func (s *stripes) mine() *stripe {
	if s.more.Load() == nil {
		return s.first
	}
	return s.ours()
}

func (s *stripes) ours() *stripe {
	more := *s.more.Load()
	if i := processor() & uint32(len(more)); i > 0 { // their number is one below a power of two
		return more[i-1]
	}
	return s.first
}

func (s *stripes) count() int {
	if more := s.more.Load(); more != nil {
		return 1 + len(*more)
	}
	return 1
}

// all yields every stripe.
func (s *stripes) all(yield func(*stripe) bool) {
	if !yield(s.first) {
		return
	}
	if more := s.more.Load(); more != nil {
		for _, each := range *more {
			if !yield(each) {
				return
			}
		}
	}
}

// spend takes n tokens of the weight from a stripe that has them left of a lease.
func (s *stripes) spend(w Weight, n int64) bool {
	for each := range s.all {
		if spend(&each.credit[w], n) {
			return true
		}
	}
	return false
}

// lose is for a call that lost a word to another one, for the lost-th time in a row.
func (s *stripes) lose(lost int) {
	switch {
	case s.more.Load() != nil:
		move() // two processors have met in one stripe
	case !s.fixed && s.lost.Add(1) == fights:
		s.spread(2 * runtime.GOMAXPROCS(0))
	}
	yield(lost)
}

// yield lets the processor that won a compare-and-swap go on for a moment: two
// that fight over a cache line for each call get less done than in turns.
func yield(lost int) {
	if lost > 0 {
		for i := range uint32(64) << min(lost, 6) {
			_ = i
		}
	}
}

// spread makes n stripes, rounded up to a power of two. The first stays what
// it is, and each other one draws from a place of its own in the sampler's sequence.
func (s *stripes) spread(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.more.Load() != nil || n < 2 {
		return
	}
	more := make([]*stripe, min(1<<bits.Len(uint(n-1)), maxStripes)-1)
	for i := range more {
		more[i] = new(stripe)
		more[i].init(s.owner, rand.NewPCG(s.seed, uint64(i)).Uint64())
	}
	s.more.Store(&more)
}

// processor returns a number that is nearly always the same for calls on the
// same processor, and another one on others. The only thing in Go that is kept
// for a processor is what lies in a sync.Pool.
func processor() uint32 {
	t := tickets.Get().(*ticket)
	n := t.number
	tickets.Put(t)
	return n
}

// move gives the processor of this moment another number.
func move() {
	t := tickets.Get().(*ticket)
	t.number = issued.Add(1)
	tickets.Put(t)
}

type ticket struct {
	number uint32
	_      [124]byte // or it shares its line with who knows what
}

var (
	issued  atomic.Uint32
	tickets = sync.Pool{New: func() any { return &ticket{number: issued.Add(1)} }}
)
