package flowcontrol

import (
	"sync"
	"sync/atomic"
)

// The message weight, the stack of free permit slots and a change counter
// share one word, so that "is there room" and "give me a slot" are one
// compare-and-swap, and a release is one more:
//
//	messages in flight : 22 | first free slot : 16 | changes : 26
//
// The change counter keeps a stack whose head returns to an old value from
// being taken for the old stack.
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

func packState(messages int64, head, tag uint64) uint64 {
	return uint64(messages)<<msgShift | head<<tagBits | tag&tagMask
}

// inflight counts what is in flight, exactly. The limits are arguments, so
// that a change of a limit never touches the counts.
type inflight struct {
	_     [64]byte
	state atomic.Uint64
	_     [56]byte
	rows  meter
	bytes meter

	peak [weights]atomic.Int64
	// Permits with other than one message are counted here, so that the number
	// of permits follows from the messages and needs no word of its own.
	oddPermits, oddMessages atomic.Int64
	overflowed              atomic.Uint64 // completed permits that had no slot in the table

	chunks atomic.Pointer[[]*[chunkSlots]slot]
	grow   sync.Mutex // guards the making of chunks
	owner  *Throttler
}

// A meter counts one weight by what was ever acquired and ever released. A
// release only adds to the second word, which makes an outdated read of it too
// small, and so the in-flight value too large: the limit is never exceeded,
// and the two sides do not fight over one cache line.
type meter struct {
	acquired atomic.Int64
	_        [56]byte
	released atomic.Int64
	_        [56]byte
}

func (m *meter) inFlight() int64 {
	released := m.released.Load() // first, so that the difference is never negative
	return m.acquired.Load() - released
}

// take acquires n if the limit allows; a negative limit is none.
func (m *meter) take(n, limit int64) (now int64, ok bool) {
	for {
		released := m.released.Load()
		acquired := m.acquired.Load()
		now = saturate(acquired-released, n)
		if limit >= 0 && now > limit || now == maxCount {
			return now - n, false
		}
		if m.acquired.CompareAndSwap(acquired, acquired+n) {
			return now, true
		}
	}
}

const maxCount = 1<<63 - 1

// messagesInFlight returns the messages in flight.
func (f *inflight) messagesInFlight() int64 { return int64(f.state.Load() >> msgShift) }

func (f *inflight) cost() Cost {
	return Cost{f.messagesInFlight(), f.rows.inFlight(), f.bytes.inFlight()}
}

// permits returns how many permits are held.
func (f *inflight) permits() int64 {
	return max(0, f.messagesInFlight()-f.oddMessages.Load()+f.oddPermits.Load())
}

// completed returns how many permits have been released: each slot counts its own.
func (f *inflight) completed() uint64 {
	total := f.overflowed.Load()
	if chunks := f.chunks.Load(); chunks != nil {
		for _, chunk := range *chunks {
			for i := range chunk {
				total += chunk[i].word.Load() >> headBits
			}
		}
	}
	return total
}

// acquire takes all of c within limit, or nothing. On failure w is the first
// weight that did not fit.
func (f *inflight) acquire(c, limit Cost) (s *slot, gen uint64, w Weight, ok bool) {
	if c.Rows > 0 {
		now, ok := f.rows.take(c.Rows, limit.Rows)
		if !ok {
			return nil, 0, Rows, false
		}
		f.peaked(Rows, now)
	}
	if c.Bytes > 0 {
		now, ok := f.bytes.take(c.Bytes, limit.Bytes)
		if !ok {
			f.rows.acquired.Add(-c.Rows)
			return nil, 0, Bytes, false
		}
		f.peaked(Bytes, now)
	}
	s, gen, ok = f.takeSlot(c.Messages, limit.Messages)
	if !ok {
		if c.Rows > 0 {
			f.rows.acquired.Add(-c.Rows)
		}
		if c.Bytes > 0 {
			f.bytes.acquired.Add(-c.Bytes)
		}
		return nil, 0, Messages, false
	}
	s.cost = c
	if c.Messages != 1 {
		f.oddPermits.Add(1)
		f.oddMessages.Add(c.Messages)
	}
	return s, gen, 0, true
}

// takeSlot takes n messages and a slot in one step.
func (f *inflight) takeSlot(n, limit int64) (*slot, uint64, bool) {
	if limit < 0 || limit > MaxMessages {
		limit = MaxMessages
	}
	for lost := 0; ; lost++ {
		yield(lost)
		state := f.state.Load()
		messages := int64(state >> msgShift)
		if n > limit-messages {
			return nil, 0, false
		}
		head := state >> tagBits & headMask
		if head == 0 {
			if f.addChunk() {
				continue
			}
			// The table is full: a slot of its own, left to the collector.
			if f.state.CompareAndSwap(state, packState(messages+n, 0, state+1)) {
				return &slot{owner: f.owner}, 0, true
			}
			continue
		}
		s := f.slotAt(head)
		word := s.word.Load()
		if f.state.CompareAndSwap(state, packState(messages+n, word&headMask, state+1)) {
			if now := messages + n; now > f.peak[Messages].Load() {
				f.peaked(Messages, now)
			}
			return s, word >> headBits, true
		}
	}
}

// close ends a slot's generation. Only one call for a generation succeeds, and
// giveBack must follow it.
func (f *inflight) close(s *slot, gen uint64) (state uint64, ok bool) {
	word := s.word.Load()
	if word>>headBits != gen {
		return 0, false
	}
	state = f.state.Load()
	return state, s.word.CompareAndSwap(word, (gen+1)<<headBits|state>>tagBits&headMask)
}

// giveBack returns what the slot holds; the caller has closed its generation.
func (f *inflight) giveBack(s *slot, gen, state uint64) {
	c, index := s.cost, uint64(s.index)
	if c.Rows > 0 {
		f.rows.released.Add(c.Rows)
	}
	if c.Bytes > 0 {
		f.bytes.released.Add(c.Bytes)
	}
	if c.Messages != 1 {
		f.oddMessages.Add(-c.Messages)
		f.oddPermits.Add(-1)
	}
	for lost := 1; ; lost++ {
		head := index
		if index == 0 { // not in the table
			head = state >> tagBits & headMask
		}
		if f.state.CompareAndSwap(state, packState(int64(state>>msgShift)-c.Messages, head, state+1)) {
			break
		}
		yield(lost)
		state = f.state.Load()
		if index != 0 {
			s.word.Store((gen+1)<<headBits | state>>tagBits&headMask)
		}
	}
	if index == 0 {
		f.overflowed.Add(1)
	}
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

func (f *inflight) peaked(w Weight, now int64) {
	p := &f.peak[w]
	for old := p.Load(); now > old; old = p.Load() {
		if p.CompareAndSwap(old, now) {
			return
		}
	}
}

func (f *inflight) peaks() Cost {
	now := f.cost()
	return Cost{
		max(now.Messages, f.peak[Messages].Load()),
		max(now.Rows, f.peak[Rows].Load()),
		max(now.Bytes, f.peak[Bytes].Load()),
	}
}

// takePeaks returns the highest values since the last call and starts anew
// from what is in flight.
func (f *inflight) takePeaks() Cost {
	now := f.cost()
	return Cost{
		max(now.Messages, f.peak[Messages].Swap(now.Messages)),
		max(now.Rows, f.peak[Rows].Swap(now.Rows)),
		max(now.Bytes, f.peak[Bytes].Swap(now.Bytes)),
	}
}
