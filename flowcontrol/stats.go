package flowcontrol

import (
	"sync/atomic"
	"time"
)

// counters count what the gate did. All but last is guarded by its lock.
type counters struct {
	rejected [reasons]uint64
	would    [reasons]uint64
	waits    waits
	peaks    peaks
	last     [reasons]atomic.Pointer[Error]
}

// rejectLocked counts a rejection and collects its facts.
func (t *Throttler) rejectLocked(q *request, v verdict) Error {
	t.rejected[v.reason]++
	return Error{
		Name: t.cfg.Name, Reason: v.reason, Weight: v.weight, RetryAfter: time.Duration(v.after),
		Cost: q.cost, Limit: t.limitLocked(), InFlight: t.inFlight, Fraction: t.sampler.fraction,
	}
}

// rejectAndUnlock rejects a call that does not wait.
func (t *Throttler) rejectAndUnlock(q *request, v verdict) *Error {
	switch v.reason {
	case ReasonRate, ReasonTenantRate:
		v.after, v.weight, _ = t.tokensInLocked(q, levels-1)
	case ReasonOversized:
		v.after = int64(Never)
	case ReasonDeadline, ReasonMaxWait:
	default:
		v.after = 0
	}
	e := t.rejectLocked(q, v)
	t.mu.Unlock()
	return t.shared(e)
}

// shared returns e as a pointer. Under overload the facts repeat, and then so
// does the value: it is not allocated anew.
func (t *Throttler) shared(e Error) *Error {
	last := &t.last[e.Reason]
	if old := last.Load(); old != nil && *old == e {
		return old
	}
	fresh := new(e)
	last.Store(fresh)
	return fresh
}

// waits adds up waiting time, of waits in progress too: a caller that is
// blocked for good must show before it is free.
type waits struct {
	began  uint64
	active int64
	sum    int64 // of the ends, minus the beginnings
	counts [waitBuckets]uint64
}

func (w *waits) begin(now int64) {
	w.began++
	w.active++
	w.sum -= now
}

func (w *waits) end(now, began int64) {
	i := 0
	for i < waitBuckets-1 && now-began > int64(time.Millisecond)<<i {
		i++
	}
	w.active--
	w.sum += now
	w.counts[i]++
}

const waitBuckets = 11

// peakWindow is how long a peak is shown at least.
const peakWindow = int64(10 * time.Second)

// peaks keep the most that was in flight, in two windows. They are turned when
// somebody looks, so that the gate needs no clock for them; who looks does not
// change what the next one sees.
type peaks struct {
	current, previous Cost
	began             int64
}

func (p *peaks) raise(c Cost) {
	p.current = Cost{max(p.current.Messages, c.Messages), max(p.current.Rows, c.Rows), max(p.current.Bytes, c.Bytes)}
}

// look returns the peak, where inFlight is what is in flight now.
func (p *peaks) look(now int64, inFlight Cost) Cost {
	if now-p.began >= peakWindow {
		p.previous, p.current, p.began = p.current, inFlight, now
	}
	both := *p
	both.raise(p.previous)
	return both.current
}

// Counts are numbers by [Reason].
type Counts [reasons]uint64

// Of returns the number for reason r.
func (c Counts) Of(r Reason) uint64 {
	if r < reasons {
		return c[r]
	}
	return 0
}

// Total returns the sum over all reasons.
func (c Counts) Total() uint64 {
	var sum uint64
	for _, n := range c {
		sum += n
	}
	return sum
}

// Stats is a snapshot of a [Throttler], taken at one moment.
type Stats struct {
	Name     string
	Mode     Mode
	InFlight Cost
	Limit    Cost // negative = none
	// Peak is the most that was in flight in the last 10 to 20 seconds, or since
	// the snapshot before the last one where these are further apart.
	Peak     Cost
	Load     float64
	Fraction float64

	Permits   int64  // held now
	Admitted  uint64 // ever; always Completed + Permits
	Completed uint64 // always Succeeded + Ignored + Dropped
	Succeeded uint64
	Ignored   uint64
	Dropped   uint64

	Rejected    Counts // ever, by reason
	WouldReject Counts // ever, by reason, while observing

	Waiting   int64         // calls that wait for room in flight
	Pacing    int64         // calls that wait for the fraction or for tokens
	Waits     uint64        // waits begun, ever
	WaitTotal time.Duration // their time, of those in progress too
	// WaitBuckets counts the waits that have ended by their length: the i-th
	// those of at most 1 ms * 2^i and more than the one before, the last the rest.
	WaitBuckets [waitBuckets]uint64

	Overdue int           // held permits older than Config.WatchdogAge
	Oldest  time.Duration // the oldest held permit's age, to the precision of the snapshots
	Keys    int           // tenants known
}

// Stats returns a snapshot. Reading changes nothing that a later reading shows.
// The watchdog counts the age of a permit from the first snapshot after its
// start, so that an admission needs no clock: it needs snapshots at regular
// times, as a monitor takes them.
func (t *Throttler) Stats() Stats {
	t.lock()
	defer t.mu.Unlock()
	now := t.nowLocked()
	st := Stats{
		Name: t.cfg.Name, Mode: t.cfg.Mode, InFlight: t.inFlight, Limit: t.limitLocked(),
		Peak: t.peaks.look(now, t.inFlight), Load: t.loadLocked(), Fraction: t.sampler.fraction,
		Permits: t.permits, Completed: t.completed, Admitted: t.completed + uint64(t.permits),
		Succeeded: t.ended[Success], Ignored: t.ended[Ignored], Dropped: t.ended[Dropped],
		Rejected: t.rejected, WouldReject: t.would,
		Waits: t.waits.began, WaitBuckets: t.waits.counts,
		WaitTotal: time.Duration(t.waits.sum + t.waits.active*now), Keys: len(t.tenants.known),
	}
	t.line.each(func(w *waiter) {
		if t.kindLocked(w) == forRoom {
			st.Waiting++
		} else {
			st.Pacing++
		}
	})
	if age := int64(t.cfg.WatchdogAge); age > 0 && t.permits > 0 {
		st.Overdue, st.Oldest = t.overdueLocked(now, age)
	}
	return st
}

// overdueLocked counts the permits that are held for longer than age, and
// notes the time on those that it sees first.
func (t *Throttler) overdueLocked(now, age int64) (overdue int, oldest time.Duration) {
	for _, chunk := range t.records {
		for i := range chunk {
			r := &chunk[i]
			if !r.held {
				continue
			}
			if r.seen == 0 {
				r.seen = now
			}
			old := now - r.seen
			oldest = max(oldest, time.Duration(old))
			if old >= age {
				overdue++
			}
		}
	}
	return overdue, oldest
}
