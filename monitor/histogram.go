package monitor

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// durationBounds are the upper bounds, in seconds, of the buckets of every
// histogram of this package: 1 ms doubled nine times.
var durationBounds = [...]float64{0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512}

// DurationBounds returns the upper bounds, in seconds, of the buckets of the
// histograms that the monitor itself observes.
func DurationBounds() []float64 { return slices.Clone(durationBounds[:]) }

// Histogram is a distribution at one moment. The zero value is one that is not
// known.
type Histogram struct {
	// Bounds are the upper bounds of the buckets, without the last, +Inf.
	Bounds []float64
	// Counts are the observations of each bucket, not cumulated; the last is
	// what lies above all bounds.
	Counts []uint64
	// Sum is the sum of the observations.
	Sum float64
	// Exemplars are the newest of each bucket, or nil; an empty trace id is none.
	Exemplars []Exemplar
}

// Exemplar is one observation and the trace that it belongs to.
type Exemplar struct {
	Value   float64
	TraceID string
	Time    time.Time
}

// Known says whether h has buckets.
func (h *Histogram) Known() bool { return len(h.Counts) == len(h.Bounds)+1 && len(h.Bounds) > 0 }

// Count returns the number of observations.
func (h *Histogram) Count() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// add adds another histogram of the same bounds. One of other bounds is left out
// rather than spread over buckets that it was not counted in.
func (h *Histogram) add(o *Histogram) {
	if !o.Known() {
		return
	}
	if !h.Known() {
		*h = Histogram{Bounds: o.Bounds, Counts: slices.Clone(o.Counts), Sum: o.Sum}
		return
	}
	if slices.Equal(h.Bounds, o.Bounds) {
		for i := range h.Counts {
			h.Counts[i] += o.Counts[i]
		}
		h.Sum += o.Sum
	}
}

// recorder collects observations without a lock. A snapshot that is taken meanwhile
// may hold an observation in its bucket and not yet in the sum; the next one has both.
type recorder struct {
	counts    [len(durationBounds) + 1]atomic.Uint64
	sum       atomic.Uint64 // bits of a float64
	exemplars [len(durationBounds) + 1]atomic.Pointer[Exemplar]
}

// observe counts a value in seconds. What is no duration counts as 0, so that it is
// seen and does no harm.
func (r *recorder) observe(value float64, traceID string) {
	if math.IsNaN(value) || value < 0 {
		value = 0
	}
	i, _ := slices.BinarySearch(durationBounds[:], value)
	r.counts[i].Add(1)
	for {
		old := r.sum.Load()
		if r.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+value)) {
			break
		}
	}
	if traceID != "" {
		r.exemplars[i].Store(&Exemplar{Value: value, TraceID: traceID, Time: time.Now()})
	}
}

func (r *recorder) snapshot() Histogram {
	h := Histogram{
		Bounds: durationBounds[:], Counts: make([]uint64, len(r.counts)),
		Sum: math.Float64frombits(r.sum.Load()),
	}
	for i := range r.counts {
		h.Counts[i] = r.counts[i].Load()
		if e := r.exemplars[i].Load(); e != nil {
			if h.Exemplars == nil {
				h.Exemplars = make([]Exemplar, len(r.counts))
			}
			h.Exemplars[i] = *e
		}
	}
	return h
}

// An Observer is told of every observation that the monitor itself makes, with
// the caller's context. The OpenTelemetry face is one: it has no asynchronous
// histogram, and this way a true one.
type Observer func(ctx context.Context, family string, value float64)
