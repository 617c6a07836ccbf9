package flowcontroltest

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A Limiter has the two verbs that admit. *flowcontrol.Throttler is one.
type Limiter interface {
	TryAcquire(context.Context, flowcontrol.Cost) (flowcontrol.Permit, error)
	Acquire(context.Context, flowcontrol.Cost) (flowcontrol.Permit, error)
}

var (
	_ Limiter = (*flowcontrol.Throttler)(nil)
	_ Limiter = AlwaysAdmits{}
	_ Limiter = AlwaysRejects{}
	_ Limiter = (*Scripted)(nil)
	_ Limiter = (*Recorder)(nil)
)

// AlwaysAdmits admits everything and counts nothing.
type AlwaysAdmits struct{}

// TryAcquire admits.
func (AlwaysAdmits) TryAcquire(context.Context, flowcontrol.Cost) (flowcontrol.Permit, error) {
	return flowcontrol.Permit{}, nil
}

// Acquire admits, unless the context has ended.
func (AlwaysAdmits) Acquire(ctx context.Context, _ flowcontrol.Cost) (flowcontrol.Permit, error) {
	return flowcontrol.Permit{}, ctx.Err()
}

// Pace passes at once, unless the context has ended.
func (AlwaysAdmits) Pace(ctx context.Context, _ flowcontrol.Cost) error { return ctx.Err() }

// Charge books nothing.
func (AlwaysAdmits) Charge(context.Context, flowcontrol.Cost) {}

// AlwaysRejects rejects everything at once. The zero value rejects for
// flowcontrol.ReasonInFlight.
type AlwaysRejects struct {
	Reason     flowcontrol.Reason
	RetryAfter time.Duration
}

// TryAcquire rejects.
func (r AlwaysRejects) TryAcquire(_ context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error) {
	if r.Reason == flowcontrol.ReasonNone {
		r.Reason = flowcontrol.ReasonInFlight
	}
	return flowcontrol.Permit{}, &flowcontrol.Error{
		Name:       "AlwaysRejects",
		Reason:     r.Reason,
		RetryAfter: r.RetryAfter,
		Cost:       c,
	}
}

// Acquire rejects without waiting, or returns the context's error.
func (r AlwaysRejects) Acquire(ctx context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error) {
	if err := ctx.Err(); err != nil {
		return flowcontrol.Permit{}, err
	}
	return r.TryAcquire(ctx, c)
}

// Pace rejects without waiting, or returns the context's error.
func (r AlwaysRejects) Pace(ctx context.Context, c flowcontrol.Cost) error {
	_, err := r.Acquire(ctx, c)
	return err
}

// Charge books nothing: there are no tokens.
func (AlwaysRejects) Charge(context.Context, flowcontrol.Cost) {}

// A Step is one answer of a [Scripted] limiter.
type Step struct {
	Err  error         // nil admits
	Wait time.Duration // how long Acquire takes; TryAcquire never waits
}

// Scripted gives the answers of its steps, in order, and admits after the last.
type Scripted struct {
	mu    sync.Mutex
	steps []Step
}

// Script returns a limiter that answers with the steps.
func Script(steps ...Step) *Scripted { return &Scripted{steps: slices.Clone(steps)} }

// Left returns how many steps were not used yet.
func (s *Scripted) Left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.steps)
}

func (s *Scripted) next() Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.steps) == 0 {
		return Step{}
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	return step
}

// TryAcquire gives the next answer.
func (s *Scripted) TryAcquire(context.Context, flowcontrol.Cost) (flowcontrol.Permit, error) {
	return flowcontrol.Permit{}, s.next().Err
}

// Acquire waits as the next step says and gives its answer. A context that
// ends first uses the step up.
func (s *Scripted) Acquire(ctx context.Context, _ flowcontrol.Cost) (flowcontrol.Permit, error) {
	step := s.next()
	if step.Wait > 0 {
		timer := time.NewTimer(step.Wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return flowcontrol.Permit{}, ctx.Err()
		}
	}
	return flowcontrol.Permit{}, step.Err
}

// Pace waits and answers as Acquire does.
func (s *Scripted) Pace(ctx context.Context, c flowcontrol.Cost) error {
	_, err := s.Acquire(ctx, c)
	return err
}

// Charge books nothing, and uses no step up.
func (*Scripted) Charge(context.Context, flowcontrol.Cost) {}

// A Call is what a [Recorder] saw.
type Call struct {
	Verb     string // "TryAcquire", "Acquire", "Pace" or "Charge"
	Cost     flowcontrol.Cost
	Key      string
	Priority flowcontrol.Priority
	Err      error
}

// A Recorder passes calls on to a Limiter and remembers them.
type Recorder struct {
	next  Limiter
	mu    sync.Mutex
	calls []Call
}

// Record returns a Recorder in front of next; nil is [AlwaysAdmits].
func Record(next Limiter) *Recorder {
	if next == nil {
		next = AlwaysAdmits{}
	}
	return &Recorder{next: next}
}

// Calls returns the calls so far.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

func (r *Recorder) note(ctx context.Context, verb string, c flowcontrol.Cost, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, Call{verb, c, flowcontrol.KeyFrom(ctx), flowcontrol.PriorityFrom(ctx), err})
}

// TryAcquire passes the call on.
func (r *Recorder) TryAcquire(ctx context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error) {
	p, err := r.next.TryAcquire(ctx, c)
	r.note(ctx, "TryAcquire", c, err)
	return p, err
}

// Acquire passes the call on; it is recorded when it returns.
func (r *Recorder) Acquire(ctx context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error) {
	p, err := r.next.Acquire(ctx, c)
	r.note(ctx, "Acquire", c, err)
	return p, err
}

// Pace passes the call on; it is recorded when it returns. A Limiter without a
// Pace lets it pass at once.
func (r *Recorder) Pace(ctx context.Context, c flowcontrol.Cost) error {
	err := ctx.Err()
	if p, ok := r.next.(interface {
		Pace(context.Context, flowcontrol.Cost) error
	}); ok {
		err = p.Pace(ctx, c)
	}
	r.note(ctx, "Pace", c, err)
	return err
}

// Charge passes the call on. A Limiter without a Charge books nothing.
func (r *Recorder) Charge(ctx context.Context, c flowcontrol.Cost) {
	if p, ok := r.next.(interface {
		Charge(context.Context, flowcontrol.Cost)
	}); ok {
		p.Charge(ctx, c)
	}
	r.note(ctx, "Charge", c, nil)
}
