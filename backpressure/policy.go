package backpressure

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// Event says what has just happened on a path. A [Policy] starts its memory anew at
// everything but Continued.
type Event uint8

const (
	// Continued: backpressure was active already.
	Continued Event = iota
	// Entered: this load has just crossed the activation threshold.
	Entered
	// Resumed: the decider has just started and found the pipeline at
	// Input.Fraction, below 1. So it is after a gap without reports, and after a
	// change of policy: go on from that fraction, whatever the load says.
	Resumed
)

// Input is what a [Policy] decides from.
type Input struct {
	// Load is the path's load now, Smoothed its exponential mean with a time
	// constant of half a second.
	Load, Smoothed float64
	// Fraction is what the path admits now.
	Fraction float64
	// Elapsed is the time since the last decision on this path, less the time
	// during which no report was fresh: what was not observed is not integrated.
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

// Memory is a path's scratch for its policy. The named fields are those of [Gradual];
// a policy of your own may use any, above all Own.
type Memory struct {
	Integral  float64       // of the error, in units of the closure u
	High, Low time.Duration // how long the load has been at the limit, or low
	Calm      time.Duration // how long the path has been ready to recover
	Rise      float64       // of the load, at activation
	Direction float64       // 1: growing at Pace, -1: shrinking, 0: neither
	Pace      float64       // per second
	Hunt      float64       // the Pace at which it last began to grow
	Own       [4]float64    // for policies of others
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
// the handoff's rule and the simplest to reason about. It oscillates wherever the
// fraction that would be right lies between its two points, and protects nothing
// where that lies below Active: then the stages' own limits do.
type Step struct {
	// Active is the fraction while active, above 0 and at most 1. Default 0.5.
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
// controller with a fast attack and a slow release. With the closure u it
// admits exp(-u), where
//
//	u = kp·(smoothed - target) + ∫ ki·(smoothed - target) dt
//
// starting from how far the load stands above the middle between the thresholds.
// The present error would be a late start: it is next to nothing when the load
// crosses the activation threshold slowly. The
// logarithm makes the loop's gain the same at every overload: what reaches the
// service is demand·fraction, so a step of 0.01 at ten times the capacity moves
// it by a tenth of the capacity, at one and a half times by a seventieth. The
// same controller without the logarithm swings between 0.2 and 1 at ten times.
//
// The integral never leaves [0, -log(floor)], the simplest form of anti-windup (Åström
// and Murray, Feedback Systems, chapter on PID control): after a long overload nothing
// has to be unwound. Smoothing the load over half a second keeps the proportional part
// from answering to single batches.
//
// Two things the load cannot say. While it is at the limit it does not show how
// far the demand is above: once it has been there for longer than a report
// takes, u grows at a pace that doubles every three seconds, and part of the
// last growth is taken back when the load comes down. The pace starts from how
// steeply the load rose at activation, and from half of that each time it
// begins anew, so that moves which overshoot die out. And when the load stays
// below the recovery threshold the overload is over: u shrinks, slowly at first.
type Gradual struct {
	// Target is the load to hold. Default: the activation threshold, at most 0.80;
	// where halfway between the thresholds is above that, the middle. A lower one
	// lets the bottleneck run dry: the driving load is the worst of several that
	// fluctuate, so the mean of each lies below it.
	Target float64
	// Proportional and Integral are kp and ki (per second). Default 0.6 and 0.25,
	// or 0.3 and 0.05 where services report more seldom than every 2 s.
	Proportional, Integral float64
	// Attack and Release bound how fast u rises and falls, per second: the
	// fraction falls at most by the factor exp(Attack) and rises by exp(Release).
	// Default 4 and 0.5. The first value after activation is applied at once.
	Attack, Release float64
	// Hold is how long the path must be open and calm before backpressure ends.
	// Default 5 s.
	Hold time.Duration
}

// The constants were found in simulations of one stage that drains its limit in one
// or two seconds, at 1.5 to 10 times its capacity (TestGradualHoldsTheLoad), and of
// rows of stages with few slots (TestNothingIsWastedUpstream).
const (
	highestTarget = 0.80 // that follows from the activation threshold: the rest takes bursts
	saturated     = 0.95 // a load from which on more demand does not show
	calmAfter     = 2500 * time.Millisecond
	slowestPace   = 0.05 // of u, per second
	fastestPace   = 0.5  // the same
	takenBack     = 0.75 // of an interval's growth: it was made before its effect showed
	growDoubles   = 3.0  // seconds in which the pace of growing doubles
	shrinkDoubles = 1.0  // and that of shrinking: too open shows at once, too closed never
)

// Decide implements [Policy].
func (g Gradual) Decide(in Input) Decision {
	kp, ki := 0.6, 0.25
	if in.Interval > 2*time.Second {
		kp, ki = 0.3, 0.05
	}
	kp, ki = cmp.Or(g.Proportional, kp), cmp.Or(g.Integral, ki)
	attack, release := cmp.Or(g.Attack, 4), cmp.Or(g.Release, 0.5)
	middle := (in.Activation + in.Recovery) / 2
	target := cmp.Or(g.Target, max(min(in.Activation, highestTarget), middle))
	most := -math.Log(in.Floor)
	seconds := in.Elapsed.Seconds()
	gap := in.Smoothed - target
	m := in.Memory

	switch in.Event {
	case Entered:
		m.Rise = in.Load - in.Smoothed
		closed := kp * (max(0, in.Load-middle) + in.Smoothed - middle)
		m.Integral = closed - kp*gap // goes on from there
		return Decision{Fraction: math.Exp(-clamp(closed, 0, most))}
	case Resumed:
		m.Integral = clamp(-math.Log(in.Fraction)-kp*gap, 0, most)
		return Decision{Fraction: in.Fraction}
	}

	m.High, m.Low = m.High+in.Elapsed, m.Low+in.Elapsed
	if in.Load < saturated {
		m.High = 0
	}
	if in.Smoothed >= in.Recovery {
		m.Low = 0
	}
	switch {
	case m.High > in.Interval*3/2:
		m.move(1, in)
	case m.Low > calmAfter:
		m.move(-1, in)
	default:
		m.move(0, in)
		m.Integral += ki * gap * seconds
	}
	m.Integral = clamp(m.Integral, 0, most)
	closed := -math.Log(in.Fraction)
	closed = clamp(clamp(m.Integral+kp*gap, 0, most), closed-release*seconds, closed+attack*seconds)

	m.Calm += in.Elapsed
	if in.Smoothed > in.Recovery || closed > 0.01 {
		m.Calm = 0
	}
	if closed < 1e-6 {
		return Decision{Fraction: 1, Release: m.Calm >= cmp.Or(g.Hold, 5*time.Second)}
	}
	return Decision{Fraction: math.Exp(-closed), Release: m.Calm >= cmp.Or(g.Hold, 5*time.Second)}
}

// move makes the integral grow (1), shrink (-1) or stay (0), at a pace that doubles the
// longer it goes one way. The end of growth halves the pace from which the next one
// starts: a search that overshoots closes in, as bisection does.
func (m *Memory) move(direction float64, in Input) {
	seconds := in.Elapsed.Seconds()
	if direction != m.Direction {
		if m.Direction > 0 {
			m.Integral -= takenBack * m.Pace * in.Interval.Seconds()
			m.Hunt = max(slowestPace, m.Hunt/2)
		}
		switch {
		case direction < 0:
			m.Pace = slowestPace
		case direction > 0 && m.Hunt == 0:
			m.Hunt = clamp(0.7*m.Rise, slowestPace, fastestPace)
			m.Pace = m.Hunt
		case direction > 0:
			m.Pace = m.Hunt
		}
		m.Direction = direction
	}
	switch {
	case direction > 0:
		m.Integral += m.Pace * seconds
		m.Pace = min(fastestPace, m.Pace*math.Exp2(seconds/growDoubles))
	case direction < 0:
		m.Integral -= m.Pace * seconds
		m.Pace = min(fastestPace, m.Pace*math.Exp2(seconds/shrinkDoubles))
	}
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
			problems = append(problems, fmt.Errorf("%s is %v, want 0 (the default) to 1000", "Gradual."+f.name, f.v))
		}
	}
	if g.Target > 1 {
		problems = append(problems, fmt.Errorf("%s is %v, want at most 1", "Gradual.Target", g.Target))
	}
	return errors.Join(problems...)
}

func clamp(v, low, high float64) float64 { return max(low, min(v, high)) }
