package flowcontrol

import (
	"math"
	"sync"
	"sync/atomic"
)

// The messages that a stripe may admit without asking, the stack of its free
// permit slots and a change counter share one word, so that "is there room"
// and "give me a slot" are one compare-and-swap, and a release is one more:
//
//	spare messages : 22 | first free slot : 16 | changes : 26
//
// The change counter keeps a stack whose head returns to an old value from
// being taken for the old stack, and shows whether anything has moved.
const (
	tagBits  = 26
	headBits = 16
	tagMask  = 1<<tagBits - 1
	headMask = 1<<headBits - 1
	msgShift = tagBits + headBits

	// MaxMessages is the largest number of messages that a Throttler counts in
	// flight, also where there is no limit.
	MaxMessages = 1<<(64-msgShift) - 1
)

func packWord(spare int64, head, tag uint64) uint64 {
	return uint64(spare)<<msgShift | head<<tagBits | tag&tagMask
}

// inflight counts what is in flight, exactly. The limits are arguments, so
// that a change of a limit never touches the counts.
//
// Messages are reserved for all stripes together and spare in each:
//
//	in flight = reserved - the spare of every stripe
//
// A release leaves its messages spare where they were admitted, in the stripe's
// word or with a slot at hand, and the next call there finds them without a look
// at anybody else. Who finds none takes those of another stripe, and only where
// none has any are more reserved. So
// reserved, which never exceeds the limit, is also the most that was in flight
// since the spare ones were last gathered, and costs no word of its own.
type inflight struct {
	_        [64]byte
	reserved atomic.Int64
	moves    atomic.Uint32 // odd while spare messages are on their way back
	_        [52]byte

	rows  meter
	bytes meter

	peak   [weights]atomic.Int64 // of messages until the latest gathering
	recent atomic.Int64          // the same of messages, for the adaptive limit
	// Permits with other than one message are counted here, so that the number
	// of permits follows from the messages and needs no word of its own.
	oddPermits, oddMessages atomic.Int64
	overflowed              atomic.Uint64 // completed permits that had no slot in the table

	chunks    atomic.Pointer[[]*[chunkSlots]slot]
	grow      sync.Mutex // guards the making of chunks
	gathering sync.Mutex
	owner     *Throttler
}

func (f *inflight) cost() Cost {
	return Cost{f.messages(), f.rows.inFlight(), f.bytes.inFlight()}
}

// permits returns how many permits are held.
func (f *inflight) permits() int64 {
	return max(0, f.messages()-f.oddMessages.Load()+f.oddPermits.Load())
}

// completed returns how many permits have been released: each slot counts its own.
func (f *inflight) completed() uint64 {
	total := f.overflowed.Load()
	for s := range f.slots {
		total += s.word.Load() >> genShift
	}
	return total
}

// slots yields every slot.
func (f *inflight) slots(yield func(*slot) bool) {
	for home := range f.owner.stripes.all {
		for i := range home.hand {
			if !yield(&home.hand[i]) {
				return
			}
		}
	}
	if chunks := f.chunks.Load(); chunks != nil {
		for _, chunk := range *chunks {
			for i := range chunk {
				if !yield(&chunk[i]) {
					return
				}
			}
		}
	}
}

// acquire takes all of c within limit, or nothing. On failure w is the first
// weight that did not fit.
func (f *inflight) acquire(home *stripe, c, limit Cost) (p Permit, w Weight, ok bool) {
	if c.Rows > 0 {
		now, ok := f.rows.take(c.Rows, limit.Rows)
		if !ok {
			return Permit{}, Rows, false
		}
		raise(&f.peak[Rows], now)
	}
	if c.Bytes > 0 {
		now, ok := f.bytes.take(c.Bytes, limit.Bytes)
		if !ok {
			f.rows.acquired.Add(-c.Rows)
			return Permit{}, Bytes, false
		}
		raise(&f.peak[Bytes], now)
	}
	s, gen, ok := f.takeSlot(home, c.Messages, limit.Messages)
	if !ok {
		if c.Rows > 0 {
			f.rows.acquired.Add(-c.Rows)
		}
		if c.Bytes > 0 {
			f.bytes.acquired.Add(-c.Bytes)
		}
		return Permit{}, Messages, false
	}
	p = Permit{s, gen, c.Rows, c.Bytes}
	if c.Messages != 1 {
		f.oddPermits.Add(1)
		f.oddMessages.Add(c.Messages)
		p = p.noted()
		p.slot.notes.messages = c.Messages
	}
	return p, 0, true
}

// takeSlot takes n messages and a slot, in one step where the stripe has both.
func (f *inflight) takeSlot(home *stripe, n, limit int64) (s *slot, gen uint64, ok bool) {
	if uint64(limit) > MaxMessages { // or negative: none
		limit = MaxMessages
	}
	mark := f.owner.watch.mark()
	if n == 1 && f.reserved.Load() <= limit {
		if s, gen, ok = f.pick(home, parked, mark); ok {
			return s, gen, true
		}
	}
	for lost := 1; ; {
		word := home.word.Load()
		spare := int64(word >> msgShift)
		if n > spare || f.reserved.Load() > limit {
			if !f.find(n, limit) {
				return nil, 0, false
			}
			if n == 1 {
				if s, gen, ok = f.pick(home, bare, mark); ok {
					return s, gen, true
				}
			}
			n, limit = 0, math.MaxInt64 // they are ours, what is left is the slot
			continue
		}
		head := word >> tagBits & headMask
		if head == 0 {
			if f.addChunk(home) {
				continue
			}
			// The table is full: a slot of its own, left to the collector.
			if home.word.CompareAndSwap(word, packWord(spare-n, 0, word+1)) {
				return &slot{home: home, index: outside}, 0, true
			}
		} else {
			s = f.slotAt(head)
			link := s.word.Load()
			if home.word.CompareAndSwap(word, packWord(spare-n, link>>stateBits&headMask, word+1)) {
				s.word.Store(link&^(1<<genShift-1) | mark)
				return s, link >> genShift, true
			}
		}
		f.owner.stripes.lose(lost)
		lost++
	}
}

// pick takes a slot at hand that is in the state.
func (f *inflight) pick(home *stripe, state, mark uint64) (s *slot, gen uint64, ok bool) {
	for i := range home.hand {
		s = &home.hand[i]
		if word := s.word.Load(); word&stateMask == state {
			if s.word.CompareAndSwap(word, word&^stateMask|mark) {
				return s, word >> genShift, true
			}
			f.owner.stripes.lose(1)
		}
	}
	return nil, 0, false
}

// find takes n messages from wherever there is room, or sees that there is none.
func (f *inflight) find(n, limit int64) bool {
	for lost := 1; ; lost++ {
		v := f.look()
		room := limit - v.reserved // negative after the limit went down
		switch {
		case room+v.spare < n:
			if f.still(v) {
				return false
			}
		case v.spare == 0:
			if f.reserved.CompareAndSwap(v.reserved, v.reserved+n) {
				return true
			}
		case room >= 0 && f.steal(n), f.gather(n, limit):
			return true
		}
		f.owner.stripes.lose(lost)
	}
}

// steal takes n messages that one stripe has to spare.
func (f *inflight) steal(n int64) bool {
	for home := range f.owner.stripes.all {
		word := home.word.Load()
		if spare := int64(word >> msgShift); spare >= n && home.word.CompareAndSwap(word, packWord(spare-n, word>>tagBits&headMask, word+1)) {
			return true
		}
		if n == 1 && home.strip(1) == 1 {
			return true
		}
	}
	return false
}

// gather returns all that is spare to the reserve, and takes n messages of it
// if the limit allows.
func (f *inflight) gather(n, limit int64) bool {
	f.gathering.Lock()
	defer f.gathering.Unlock()
	f.moves.Add(1)
	defer f.moves.Add(1)
	spare := int64(0)
	for s := range f.owner.stripes.all {
		for word := s.word.Load(); word>>msgShift > 0; word = s.word.Load() {
			if s.word.CompareAndSwap(word, packWord(0, word>>tagBits&headMask, word+1)) {
				spare += int64(word >> msgShift)
				break
			}
		}
		spare += s.strip(hands)
	}
	for {
		reserved := f.reserved.Load()
		left := reserved - spare
		fits := n <= limit-left
		if fits {
			left += n
		}
		if f.reserved.CompareAndSwap(reserved, left) {
			raise(&f.peak[Messages], reserved)
			raise(&f.recent, reserved)
			return fits
		}
	}
}

// A view is what one look at all stripes found.
type view struct {
	reserved, spare int64
	changes         uint64
	moves           uint32
}

func (f *inflight) look() view {
	v := view{moves: f.moves.Load(), reserved: f.reserved.Load()}
	v.add(f.owner.stripes.first)
	if more := f.owner.stripes.more.Load(); more != nil {
		for _, s := range *more {
			v.add(s)
		}
	}
	return v
}

func (v *view) add(s *stripe) {
	word := s.word.Load()
	v.spare += int64(word >> msgShift)
	v.changes += word & tagMask
	for i := range s.hand {
		word := s.hand[i].word.Load()
		if word&stateMask == parked {
			v.spare++
		}
		v.changes += word>>genShift<<stateBits | word&stateMask
	}
}

// still reports that nothing moved between the look and this one, so that all
// of v was true at one instant. Only a gathering lowers reserved, and a stripe's
// changes only rise, so equal sums are equal parts.
func (f *inflight) still(v view) bool {
	if v.moves%2 != 0 {
		f.settle()
		return false
	}
	return f.look() == v
}

// settle waits until what is on its way has arrived.
func (f *inflight) settle() {
	f.gathering.Lock()
	defer f.gathering.Unlock()
}

// looks is how often the number of messages is read anew while it moves.
const looks = 4

// messages returns the messages in flight. While many calls come and go it may
// be off by those of the moment, but never negative or more than is reserved.
func (f *inflight) messages() int64 {
	for n := 0; ; n++ {
		if v := f.look(); f.still(v) || n == looks {
			return max(0, v.reserved-v.spare)
		}
	}
}

// glance is cost for who has no time for a second look.
func (f *inflight) glance() Cost {
	v := f.look()
	return Cost{max(0, v.reserved-v.spare), f.rows.inFlight(), f.bytes.inFlight()}
}

// full reports that n messages do not fit; false may mean that it cannot tell.
// It looks at other stripes only where its own has nothing to spare.
func (f *inflight) full(home *stripe, n, limit int64) bool {
	if f.reserved.Load() <= limit && home.has(n) {
		return false
	}
	v := f.look()
	return limit >= 0 && v.reserved-v.spare > limit-n && f.still(v)
}

// release ends a permit's generation, gives back what it holds, and returns the
// notes on it. Only the first call for a generation succeeds.
func (f *inflight) release(p Permit) (n notes, ok bool) {
	s, gen, noted := p.slot, p.generation(), p.gen&notedBit != 0
	free := (gen + 1) << genShift // at hand: parked, with its message
	var word uint64               // the home's, where the slot goes back to a stack
	for {
		old := s.word.Load()
		if old>>genShift != gen || old&stateMask == ending {
			return n, false
		}
		next := free
		if s.index != atHand {
			word = s.home.word.Load()
			next |= word>>tagBits&headMask<<stateBits | bare
		} else if noted {
			next = old | ending
		}
		if s.word.CompareAndSwap(old, next) {
			break
		}
	}
	n.messages = 1
	if noted {
		n = *s.notes
		s.notes.key = nil
	}
	if p.rows > 0 {
		f.rows.released.Add(p.rows)
	}
	if p.bytes > 0 {
		f.bytes.released.Add(p.bytes)
	}
	if s.index != atHand {
		f.putBack(s, gen, n.messages, word)
	} else if noted {
		s.word.Store(free)
	}
	return n, true
}

// putBack puts a slot on its stack, beside the n messages that it was held with.
func (f *inflight) putBack(s *slot, gen uint64, n int64, word uint64) {
	if n != 1 {
		f.oddMessages.Add(-n)
		f.oddPermits.Add(-1)
	}
	for lost := 1; ; lost++ {
		head := uint64(s.index)
		if s.index == outside {
			head = word >> tagBits & headMask
		}
		if s.home.word.CompareAndSwap(word, packWord(int64(word>>msgShift)+n, head, word+1)) {
			break
		}
		f.owner.stripes.lose(lost)
		word = s.home.word.Load()
		if s.index != outside {
			s.word.Store((gen+1)<<genShift | word>>tagBits&headMask<<stateBits | bare)
		}
	}
	if s.index == outside {
		f.overflowed.Add(1)
	}
}

func (f *inflight) peaks() Cost {
	now := f.cost()
	return Cost{
		max(f.reserved.Load(), f.peak[Messages].Load()),
		max(now.Rows, f.peak[Rows].Load()),
		max(now.Bytes, f.peak[Bytes].Load()),
	}
}

// takePeaks returns the highest values since the last call and starts anew
// from what is in flight.
func (f *inflight) takePeaks() Cost {
	now := f.cost()
	f.gather(0, MaxMessages)
	return Cost{
		f.peak[Messages].Swap(0),
		max(now.Rows, f.peak[Rows].Swap(now.Rows)),
		max(now.Bytes, f.peak[Bytes].Swap(now.Bytes)),
	}
}

// takeRecent returns the most messages in flight since its last call.
func (f *inflight) takeRecent() int64 {
	f.gather(0, MaxMessages)
	return f.recent.Swap(0)
}
