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
	slot *slot
	gen  uint64
}

// A slot holds what a permit was given. A Permit points to it and names the
// generation in which it was given; Release closes the generation with one
// compare-and-swap, so a second Release, also through a copy, finds another
// generation and does nothing. The alternative, a pointer to a fresh object,
// costs an allocation for each call.
type slot struct {
	word  atomic.Uint64 // generation : 48 | next free slot : 16
	since atomic.Uint64 // generation and snapshot number, for the watchdog
	owner *Throttler
	home  *stripe // to whose stack it belongs
	// The fields below belong to the permit's holder.
	cost  Cost
	key   *tenant
	start int64 // when the work began, on the throttler's clock; 0 = not timed
	index uint16
	paced bool
}

const (
	chunkSlots = 64
	maxChunks  = (1<<headBits - 1) / chunkSlots
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
		chunk[i].owner, chunk[i].home = f.owner, home
		chunk[i].index = uint16(first + i)
		if i+1 < chunkSlots {
			chunk[i].word.Store(uint64(first + i + 1))
		}
	}
	grown := append(old[:len(old):len(old)], chunk)
	f.chunks.Store(&grown)
	last := &chunk[chunkSlots-1]
	for {
		word := home.word.Load()
		last.word.Store(word >> tagBits & headMask)
		if home.word.CompareAndSwap(word, packWord(int64(word>>msgShift), uint64(first), word+1)) {
			return true
		}
	}
}

// Release ends the work and gives everything back. Only the first call for an
// admission counts, also among copies of the permit.
func (p Permit) Release(o Outcome) {
	if p.slot != nil {
		p.slot.owner.release(p, o, 0)
	}
}

// ReleaseAt is Release for a caller that has just read the clock for itself, as now.
func (p Permit) ReleaseAt(o Outcome, now time.Time) {
	if p.slot != nil {
		p.slot.owner.release(p, o, p.slot.owner.instant(now))
	}
}
