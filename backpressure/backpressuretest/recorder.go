package backpressuretest

import (
	"slices"
	"sync"
	"testing"
)

// A Recorder is a [backpressure.FractionSetter] that remembers what it is told.
// The zero Recorder is ready.
type Recorder struct {
	mu   sync.Mutex
	told []float64
}

// SetFraction implements [backpressure.FractionSetter].
func (r *Recorder) SetFraction(fraction float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fraction)
}

// Fractions returns everything that was told, in order.
func (r *Recorder) Fractions() []float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.told)
}

// Last returns what was told last, 1 before anything was.
func (r *Recorder) Last() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.told) == 0 {
		return 1
	}
	return r.told[len(r.told)-1]
}

// Reset forgets.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = nil
}

// Expect fails the test unless the fractions were told in this order; others
// may lie between.
func (r *Recorder) Expect(t testing.TB, fractions ...float64) {
	t.Helper()
	told := r.Fractions()
	rest := told
	for _, want := range fractions {
		i := slices.Index(rest, want)
		if i < 0 {
			t.Errorf("backpressuretest: told %v, want %v in this order", told, fractions)
			return
		}
		rest = rest[i+1:]
	}
}

// ExpectExactly fails the test unless exactly these fractions were told.
func (r *Recorder) ExpectExactly(t testing.TB, fractions ...float64) {
	t.Helper()
	if told := r.Fractions(); !slices.Equal(told, fractions) {
		t.Errorf("backpressuretest: told %v, want exactly %v", told, fractions)
	}
}
