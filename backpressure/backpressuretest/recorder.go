package backpressuretest

import (
	"slices"
	"sync"
	"testing"
)

// A Recorder is a [backpressure.FractionSetter] that remembers what it is set to.
// The zero Recorder is ready. It keeps everything: a test that runs for days of
// virtual time resets it.
type Recorder struct {
	mu  sync.Mutex
	set []float64
}

// SetFraction implements [backpressure.FractionSetter].
func (r *Recorder) SetFraction(fraction float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = append(r.set, fraction)
}

// Fractions returns everything that it was set to, in order.
func (r *Recorder) Fractions() []float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.set)
}

// Last returns the last fraction, 1 before there was one.
func (r *Recorder) Last() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.set) == 0 {
		return 1
	}
	return r.set[len(r.set)-1]
}

// Reset forgets.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = nil
}

// Expect fails the test unless the fractions were set in this order; others
// may lie between. Fractions are compared exactly: they are those of a [Scripted] or of
// [backpressure.Step].
func (r *Recorder) Expect(t testing.TB, fractions ...float64) {
	t.Helper()
	set := r.Fractions()
	rest := set
	for _, want := range fractions {
		i := slices.Index(rest, want)
		if i < 0 {
			t.Errorf("backpressuretest: set to %v, want %v in this order", set, fractions)
			return
		}
		rest = rest[i+1:]
	}
}

// ExpectExactly fails the test unless exactly these fractions were set.
func (r *Recorder) ExpectExactly(t testing.TB, fractions ...float64) {
	t.Helper()
	if set := r.Fractions(); !slices.Equal(set, fractions) {
		t.Errorf("backpressuretest: set to %v, want exactly %v", set, fractions)
	}
}
