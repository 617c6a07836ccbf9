package backpressuretest

import (
	"slices"
	"sync"

	"github.com/withobsrvr/sluice/backpressure"
)

// A Coordinator is what decides for a pipeline, as a component sees it: a
// [backpressure.Controller], or one of your own.
type Coordinator interface {
	// Report takes a service's load.
	Report(backpressure.Report) error
	// Fraction returns what the pipeline admits, 0..1.
	Fraction() float64
	// Bind sets setter to the fraction now and at every change until cancel.
	Bind(setter backpressure.FractionSetter) (cancel func())
}

// Scripted is a [Coordinator] that decides what its script says, whatever is
// reported. The zero Scripted admits everything.
type Scripted struct {
	mu      sync.Mutex
	closed  float64 // 1 - fraction, so that zero is open
	err     error
	reports []backpressure.Report
	bound   []*binding
}

type binding struct{ setter backpressure.FractionSetter }

// Play sets the setters to these fractions, one after the other. When it returns, all
// have been set.
func (s *Scripted) Play(fractions ...float64) {
	for _, f := range fractions {
		s.mu.Lock()
		s.closed = 1 - f
		bound := slices.Clone(s.bound)
		s.mu.Unlock()
		for _, b := range bound {
			b.setter.SetFraction(f)
		}
	}
}

// Reject makes Report return err from now on; nil takes reports again.
func (s *Scripted) Reject(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// Reports returns the reports that were taken, in order.
func (s *Scripted) Reports() []backpressure.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// Report implements [Coordinator].
func (s *Scripted) Report(r backpressure.Report) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.reports = append(s.reports, r)
	return nil
}

// Fraction implements [Coordinator].
func (s *Scripted) Fraction() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 1 - s.closed
}

// Bind implements [Coordinator].
func (s *Scripted) Bind(setter backpressure.FractionSetter) (cancel func()) {
	b := &binding{setter}
	s.mu.Lock()
	s.bound = append(s.bound, b)
	f := 1 - s.closed
	s.mu.Unlock()
	setter.SetFraction(f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bound = slices.DeleteFunc(s.bound, func(x *binding) bool { return x == b })
	}
}
