package flowcontrol

import (
	"fmt"
	"sync/atomic"
	"time"
)

// An Outcome says how admitted work ended.
type Outcome uint8

// The outcomes.
const (
	Success Outcome = iota // finished: its service time teaches the adaptive limit
	Ignored                // cancelled, or failed for a reason of its own: teaches nothing
	Dropped                // failed because something was overloaded or late: lowers the adaptive limit
	outcomes
)

var outcomeNames = [outcomes]string{"success", "ignored", "dropped"}

// String returns the outcome in lower case.
func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// A Permit is the right to work on what was admitted. It is a small value: it
// may be copied, and the first Release of any copy counts. The zero Permit is
// valid and releases nothing.
type Permit struct {
	slot        *slot
	gen         uint64 // the slot's generation, and the bits below
	rows, bytes int64  // held with it
}

const (
	// pacedBit marks in Permit.gen that the pacer counts the work.
	pacedBit = 1 << 63
	// notedBit marks in Permit.gen that the slot has notes on the permit.
	notedBit = 1 << 62
)

func (p Permit) generation() uint64 { return p.gen &^ (pacedBit | notedBit) }

// Notes are what few permits need.
type notes struct {
	messages int64 // held with it, 1 without notes
	key      *tenant
	start    int64 // when the work began, on the throttler's clock; 0 = not timed
}

// A slot says whether a permit is still held. A Permit points to it and names
// the generation in which it was given; Release ends the generation with one
// compare-and-swap, so a second Release, also through a copy, finds another
// generation and does nothing. The alternative, a pointer to a fresh object,
// costs an allocation for each call.
//
//	generation : 46 | mark : 16 | state : 2
//
// The mark of a held slot is when it was taken, for the watchdog, and that of one
// in a stack is the next one below it. Within a generation the state only rises.
type slot struct {
	word  atomic.Uint64
	home  *stripe
	notes *notes // the holder's, nil until there were any
	index uint16 // in the table of slots that go to stacks, or one of the below
}

const (
	stateBits = 2
	stateMask = 1<<stateBits - 1
	genShift  = stateBits + headBits

	parked = 0 // free, at hand, with a message
	bare   = 1 // free
	held   = 2
	ending = 3 // no longer held, not yet free

	atHand  = 0               // in no table: it belongs to a stripe
	outside = 1<<headBits - 1 // in no table: there was no room
)

const (
	chunkSlots = 64
	maxChunks  = (outside - 1) / chunkSlots
)

// slotAt returns the slot with the index, which starts at 1.
func (f *inflight) slotAt(index uint64) *slot {
	return &(*f.chunks.Load())[(index-1)/chunkSlots][(index-1)%chunkSlots]
}

// addChunk adds free slots to a stripe; it reports false when the table is full.
func (f *inflight) addChunk(home *stripe) bool {
	f.grow.Lock()
	defer f.grow.Unlock()
	if home.word.Load()>>tagBits&headMask != 0 {
		return true // another caller did it
	}
	var old []*[chunkSlots]slot
	if p := f.chunks.Load(); p != nil {
		old = *p
	}
	if len(old) >= maxChunks {
		return false
	}
	chunk := new([chunkSlots]slot)
	first := len(old)*chunkSlots + 1
	for i := range chunk {
		chunk[i].home, chunk[i].index = home, uint16(first+i)
		if i+1 < chunkSlots {
			chunk[i].word.Store(uint64(first+i+1)<<stateBits | bare)
		}
	}
	grown := append(old[:len(old):len(old)], chunk)
	f.chunks.Store(&grown)
	last := &chunk[chunkSlots-1]
	for {
		word := home.word.Load()
		last.word.Store(word>>tagBits&headMask<<stateBits | bare)
		if home.word.CompareAndSwap(word, packWord(int64(word>>msgShift), uint64(first), word+1)) {
			return true
		}
	}
}

// noted returns the permit with a slot that has notes on it.
func (p Permit) noted() Permit {
	if p.gen&notedBit == 0 {
		if p.slot.notes == nil {
			p.slot.notes = new(notes)
		}
		*p.slot.notes = notes{messages: 1}
		p.gen |= notedBit
	}
	return p
}

// Release ends the work and gives everything back. Only the first call for an
// admission counts, also among copies of the permit.
func (p Permit) Release(o Outcome) {
	if p.slot != nil {
		p.slot.home.owner.release(p, o, 0)
	}
}

// ReleaseAt is Release for a caller that has just read the clock for itself, as
// now on the [Throttler.Clock] of the Throttler that gave the permit.
func (p Permit) ReleaseAt(o Outcome, now time.Duration) {
	if p.slot != nil {
		p.slot.home.owner.release(p, o, max(int64(now), 1))
	}
}
