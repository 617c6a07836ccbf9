package flowcontrol

import "fmt"

// An Outcome says how admitted work ended.
type Outcome uint8

// The outcomes.
const (
	Success Outcome = iota // finished: its service time teaches the adaptive limit
	Ignored                // cancelled, or failed for a reason of its own: teaches nothing
	Dropped                // failed because something was overloaded or late: lowers the limit in force
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
	record     *record
	generation uint64
}

// Release ends the work, gives everything back, and admits what waits for it.
// Only the first call for an admission counts, also among copies of the permit.
// It is safe for concurrent use and never blocks.
func (p Permit) Release(o Outcome) {
	if p.record != nil {
		p.record.gate.release(p, o)
	}
}

// A record is what the gate keeps of one permit. Records are reused, because a
// fresh object for each call would cost more than the decision: a Permit names
// the generation in which it was given, and Release ends that generation, so a
// second Release, also of a copy, finds another generation and does nothing.
// All fields but gate are guarded by the gate's lock.
type record struct {
	gate       *Throttler
	generation uint64
	held       bool
	dutied     bool // counted in duty.working
	cost       Cost // in flight, which may be less than what was asked
	tenant     *tenant
	start      int64  // when the work began; 0 = not read from the clock
	seen       int64  // when the watchdog first saw it; 0 = not yet
	ends       uint64 // the gate's count of ends when it began
	next       *record
}

// recordChunk is how many records are made at a time.
const recordChunk = 64

// takeRecord returns a free record. The records of the most permits that were
// ever held at once stay.
func (t *Throttler) takeRecordLocked() *record {
	if t.free == nil {
		chunk := make([]record, recordChunk)
		for i := range chunk {
			chunk[i].gate, chunk[i].next = t, t.free
			t.free = &chunk[i]
		}
		t.records = append(t.records, chunk)
	}
	r := t.free
	t.free = r.next
	return r
}

func (t *Throttler) freeRecordLocked(r *record) {
	r.generation++
	r.held, r.dutied, r.tenant, r.start, r.seen = false, false, nil, 0, 0
	r.next, t.free = t.free, r
}
