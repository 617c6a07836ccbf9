package backpressure

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Event says what has just happened on a path.
type Event uint8

const (
	// Continued: backpressure was active already.
	Continued Event = iota
	// Entered: this load has just crossed the activation threshold.
	Entered
	// Resumed: the decider has just started and found the pipeline at
	// Input.Fraction, below 1.
	Resumed
)

// Input is what a [Policy] decides from.
type Input struct {
	// Load is the path's load now, Smoothed its exponential mean with a time
	// constant of half a second.
	Load, Smoothed float64
	// Fraction is what the path admits now.
	Fraction float64
	// Elapsed is the time since the last decision on this path.
	Elapsed time.Duration
	// Activation, Recovery and Floor are the settings in force.
	Activation, Recovery, Floor float64
	// Interval is how often services report at rest.
	Interval time.Duration
	Event    Event
	// Memory is the path's own scratch: what the policy puts there it finds
	// at its next decision on the path. It is zero at Entered and Resumed.
	Memory *Memory
}

// Memory is a path's scratch for its policy.
type Memory struct {
	Integral float64
	Calm     time.Duration // how long the path has been ready to recover
	Own      [4]float64    // for policies of others
}

// Decision is what a [Policy] wants.
type Decision struct {
	// Fraction to admit. It is clamped to [Floor, 1]; NaN means no change.
	Fraction float64
	// Release ends backpressure, provided that the load is at or below the
	// recovery threshold.
	Release bool
}

// Policy computes the fraction of a path while backpressure is active there.
// Decide runs under the controller's lock, for several paths in turn: it must
// be quick, must not call the controller, and keeps its state in Input.Memory.
type Policy interface {
	Decide(Input) Decision
}

// A validator is a policy with settings that can be wrong.
type validator interface{ validate() error }

// Step is the two-point policy: one fraction while active, 1 otherwise. It is
// the simplest to reason about, and oscillates.
type Step struct {
	// Active is the fraction while active. Default 0.5.
	Active float64
}

// Decide implements [Policy].
func (s Step) Decide(in Input) Decision {
	return Decision{Fraction: cmp.Or(s.Active, 0.5), Release: in.Load <= in.Recovery}
}

// String returns the policy's name.
func (Step) String() string { return "step" }

func (s Step) validate() error {
	if a := cmp.Or(s.Active, 0.5); !(a > 0 && a <= 1) {
		return fmt.Errorf("%s is %v, want above 0 and at most 1", "Step.Active", s.Active)
	}
	return nil
}

// Gradual steers the smoothed load to a target: a proportional-integral
// controller with a fast attack and a slow release. The rejected share follows
//
//	kp·(smoothed - target) + ∫ ki·(smoothed - target) dt
//
// starting from the present error, so that activation does not jump.
type Gradual struct {
	// Target is the load to hold. Default: halfway between the thresholds (0.70).
	Target float64
	// Proportional and Integral are kp and ki (per second). Default 0.6 and 0.25,
	// or 0.3 and 0.05 where services report more seldom than every 2 s.
	Proportional, Integral float64
	// Attack and Release bound how fast the fraction falls and rises, per second.
	// Default 1 and 0.25. The first value after activation is applied at once.
	Attack, Release float64
	// Hold is how long the path must be open and calm before backpressure ends.
	// Default 5 s.
	Hold time.Duration
}

// Decide implements [Policy].
func (g Gradual) Decide(in Input) Decision {
	kp, ki := 0.6, 0.25
	if in.Interval > 2*time.Second {
		kp, ki = 0.3, 0.05
	}
	kp, ki = cmp.Or(g.Proportional, kp), cmp.Or(g.Integral, ki)
	target := cmp.Or(g.Target, (in.Activation+in.Recovery)/2)
	most := 1 - in.Floor
	seconds := in.Elapsed.Seconds()
	gap := in.Smoothed - target
	m := in.Memory

	switch in.Event {
	case Entered:
		m.Integral = kp * max(0, in.Load-target)
		return Decision{Fraction: 1 - clamp(m.Integral+kp*gap, 0, most)}
	case Resumed:
		m.Integral = clamp(1-in.Fraction-kp*gap, 0, most)
		return Decision{Fraction: in.Fraction}
	}
	m.Integral = clamp(m.Integral+ki*gap*seconds, 0, most)
	rejected := 1 - in.Fraction
	want := clamp(m.Integral+kp*gap, 0, most)
	attack, release := cmp.Or(g.Attack, 1), cmp.Or(g.Release, 0.25)
	rejected = clamp(want, rejected-release*seconds, rejected+attack*seconds)

	if in.Smoothed <= in.Recovery && rejected <= 0.01 {
		m.Calm += in.Elapsed
	} else {
		m.Calm = 0
	}
	return Decision{Fraction: 1 - rejected, Release: m.Calm >= cmp.Or(g.Hold, 5*time.Second)}
}

// String returns the policy's name.
func (Gradual) String() string { return "gradual" }

func (g Gradual) validate() error {
	var problems []error
	for _, f := range [...]struct {
		name string
		v    float64
	}{
		{"Target", g.Target},
		{"Proportional", g.Proportional},
		{"Integral", g.Integral},
		{"Attack", g.Attack},
		{"Release", g.Release},
		{"Hold", g.Hold.Seconds()},
	} {
		if !(f.v >= 0 && f.v <= 1000) {
			problems = append(problems, fmt.Errorf("Gradual.%s is %v, want 0 (the default) to 1000", f.name, f.v))
		}
	}
	if g.Target > 1 {
		problems = append(problems, fmt.Errorf("%s is %v, want at most 1", "Gradual.Target", g.Target))
	}
	return errors.Join(problems...)
}

func clamp(v, low, high float64) float64 { return max(low, min(v, high)) }
