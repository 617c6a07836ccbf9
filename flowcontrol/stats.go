package flowcontrol

import (
	"sync"
	"sync/atomic"
	"time"
)

// counters count what did not go straight through; what did is counted by the
// slots of the permits themselves.
type counters struct {
	refused [reasons]atomic.Uint64
	would   [reasons]atomic.Uint64
	ended   [outcomes]atomic.Uint64
	undone  atomic.Uint64
	waits   waits
	pacing  atomic.Int64
	last    [reasons]atomic.Pointer[Error]
}

// waits adds up waiting time, of waits in progress too: a caller that is
// blocked for good must show before it is free.
type waits struct {
	mu     sync.Mutex
	began  uint64
	active int64
	sum    int64 // of the ends, minus the beginnings
	counts [WaitBucketCount]uint64
}

func (w *waits) begin(now int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.began++
	w.active++
	w.sum -= now
}

func (w *waits) end(t *Throttler, began int64) {
	now := t.now()
	i := 0
	for i < WaitBucketCount-1 && now-began > int64(time.Millisecond)<<i {
		i++
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active--
	w.sum += now
	w.counts[i]++
}

func (w *waits) total(t *Throttler) (began uint64, total time.Duration, counts [WaitBucketCount]uint64) {
	now := t.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began, time.Duration(max(0, w.sum+w.active*now)), w.counts
}

// WaitBucketCount is the number of Stats.WaitBuckets: 1 ms to 512 ms, and the rest.
const WaitBucketCount = 11

// refuse counts a refusal and explains it. Under overload the facts repeat,
// and then so does the value: it is not allocated anew.
func (t *Throttler) refuse(s *settings, c Cost, r Reason, stage Stage, w Weight, after time.Duration) *Error {
	t.counters.refused[r].Add(1)
	if stage >= StageInFlight && s.limit.Messages < s.cfg.Limit.Messages {
		t.guard.refused(t)
	}
	e := Error{
		Name: s.cfg.Name, Reason: r, Stage: stage, Weight: w, RetryAfter: after,
		Cost: c, Limit: t.limit(s), InFlight: t.flight.glance(), Fraction: t.sampler.fraction(),
	}
	last := &t.counters.last[r]
	if old := last.Load(); old != nil && *old == e {
		return old
	}
	fresh := new(e)
	last.Store(fresh)
	return fresh
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

// Stats is a snapshot of a [Throttler].
type Stats struct {
	Name     string
	Mode     Mode
	InFlight Cost
	Limit    Cost // negative = none
	Peak     Cost // the highest InFlight since the last TakePeak
	Load     float64
	Fraction float64

	Permits   int64  // held now
	Admitted  uint64 // ever; always Completed + Permits
	Completed uint64 // always Succeeded + Ignored + Dropped
	Succeeded uint64
	Ignored   uint64
	Dropped   uint64

	Refused     Counts // ever, by reason
	WouldRefuse Counts // ever, by reason, while observing

	Waiting   int64         // calls that wait for room in flight
	Pacing    int64         // calls that wait for the fraction or for tokens
	Waits     uint64        // waits begun, ever
	WaitTotal time.Duration // their time, of those in progress too
	// WaitBuckets counts the waits that have ended by their length: the i-th
	// those of at most 1 ms * 2^i and more than the one before, the last the rest.
	WaitBuckets [WaitBucketCount]uint64

	Overdue int           // held permits older than Config.WatchdogAge
	Oldest  time.Duration // the oldest held permit's age, to the precision of the snapshots
	Keys    int           // tenants known
}

// Stats returns a snapshot. Its parts agree with each other as its fields say.
// The watchdog sees the age of a permit from the first snapshot after its
// start, so it needs snapshots at regular times, as a monitor takes them.
func (t *Throttler) Stats() Stats {
	s := t.settings.Load()
	st := Stats{
		Name: s.cfg.Name, Mode: s.cfg.Mode, InFlight: t.flight.cost(), Limit: t.limit(s), Peak: t.flight.peaks(),
		Fraction: t.sampler.fraction(), Permits: t.flight.permits(),
		Waiting: t.queue.waiting.Load(), Pacing: t.counters.pacing.Load(),
	}
	st.Waits, st.WaitTotal, st.WaitBuckets = t.counters.waits.total(t)
	st.Load = load(st.InFlight, st.Limit)
	undone := t.counters.undone.Load()
	st.Ignored, st.Dropped = t.counters.ended[Ignored].Load(), t.counters.ended[Dropped].Load()
	st.Completed = max(t.flight.completed()-min(undone, t.flight.completed()), st.Ignored+st.Dropped)
	st.Succeeded = st.Completed - st.Ignored - st.Dropped
	st.Admitted = st.Completed + uint64(st.Permits)
	for r := range st.Refused {
		st.Refused[r], st.WouldRefuse[r] = t.counters.refused[r].Load(), t.counters.would[r].Load()
	}
	st.Keys = int(t.tenants.size.Load())
	if s.cfg.WatchdogAge > 0 {
		st.Overdue, st.Oldest = t.watch.scan(&t.flight, t.now(), int64(s.cfg.WatchdogAge))
	}
	return st
}

// TakePeak returns the most that was in flight since the last TakePeak. It is
// for the one monitor that samples this Throttler.
func (t *Throttler) TakePeak() Cost { return t.flight.takePeaks() }
