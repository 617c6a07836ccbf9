package flowcontrol

import (
	"context"
	"time"
)

// Acquire waits until c may proceed, and returns its permit. It waits for the
// fraction, then for tokens, then for room in flight, no longer than ctx,
// Config.MaxWait and the queue allow. A call with a deadline waits a sixteenth of
// its time for the fraction at most, unless it is patient ([WithPatience]) or
// served in order. A call that ends with its context
// returns the context's error; any other failure is an [*Error]. On failure
// nothing has changed.
func (t *Throttler) Acquire(ctx context.Context, c Cost) (Permit, error) {
	var v visit
	return t.acquire(ctx, c, &v)
}

// AcquireAt is Acquire for a caller that has just read the clock for itself,
// as now on the Throttler's [Throttler.Clock], and saves the gate from reading
// it again. waited reports whether there was a wait, so that the clock has moved
// on; without one the call has taken less than a reading is worth.
func (t *Throttler) AcquireAt(ctx context.Context, c Cost, now time.Duration) (p Permit, waited bool, err error) {
	v := visit{at: max(int64(now), 1)}
	p, err = t.acquire(ctx, c, &v)
	return p, v.waited, err
}

func (t *Throttler) acquire(ctx context.Context, c Cost, v *visit) (Permit, error) {
	s := t.settings.Load()
	if s.cfg.Mode == Off {
		return Permit{}, nil
	}
	if err := ctx.Err(); err != nil {
		t.counters.refused[ReasonCanceled].Add(1)
		return Permit{}, err
	}
	v.home = t.stripes.mine()
	if s.plain && !t.sampler.engaged.Load() && t.queue.waiting.Load() == 0 {
		if c.Messages|c.Rows|c.Bytes >= 0 {
			if p, _, ok := t.flight.acquire(v.home, c, s.limit); ok {
				return p, nil
			}
		}
	}
	c = c.clean()
	if s.cfg.Mode == Observe {
		return t.observe(ctx, s, c, v.home), nil
	}
	fit, w, never := fitting(s, c, t.limit(s))
	if never {
		return Permit{}, t.refuse(s, c, ReasonOversized, StageInFlight, w, Never)
	}
	until := t.deadline(s, v)
	enforced := s.rated && t.enforcesTokens(s)
	counted, err := t.pass(ctx, s, c, until, enforced, false, v)
	if err != nil {
		return Permit{}, err
	}
	p, err := t.wait(ctx, s, c, fit, until, v)
	if err != nil {
		if enforced {
			t.refundTokens(s, c)
		}
		if counted {
			t.pacer.done(t.now())
		}
		return Permit{}, err
	}
	if s.rated && !enforced {
		t.chargeTokens(s, c)
	}
	if counted {
		p.gen |= pacedBit
	}
	return p, nil
}

// Pace waits for the fraction and for tokens, and holds nothing: it is for a
// sender that wants to be slowed before it hands its next message on. The time
// from one Pace to the next, up to 250 ms, counts as the sender's work.
func (t *Throttler) Pace(ctx context.Context, c Cost) error {
	var v visit
	return t.pace(ctx, c, &v)
}

// PaceAt is to Pace what AcquireAt is to Acquire.
func (t *Throttler) PaceAt(ctx context.Context, c Cost, now time.Duration) (waited bool, err error) {
	v := visit{at: max(int64(now), 1)}
	err = t.pace(ctx, c, &v)
	return v.waited, err
}

func (t *Throttler) pace(ctx context.Context, c Cost, v *visit) error {
	s := t.settings.Load()
	if s.cfg.Mode == Off {
		return nil
	}
	if !s.rated && !t.sampler.engaged.Load() {
		return ctx.Err()
	}
	v.home = t.stripes.mine()
	c = c.clean()
	if s.cfg.Mode == Observe {
		if t.sampler.engaged.Load() && !t.sampler.admit(v.home) {
			t.counters.would[ReasonFraction].Add(1)
		}
		t.chargeTokens(s, c)
		return nil
	}
	enforced := s.rated && t.enforcesTokens(s)
	_, err := t.pass(ctx, s, c, t.deadline(s, v), enforced, true, v)
	if err == nil && s.rated && !enforced {
		t.chargeTokens(s, c)
	}
	return err
}

// A visit is what one call knows on its way through the gate: its stripe, and
// the throttler's clock. The clock is read when it is first needed, and once as
// long as the call does not wait: between its steps pass fewer nanoseconds than
// a reading takes.
type visit struct {
	home   *stripe
	at     int64 // 0 = not read
	waited bool
}

func (t *Throttler) read(v *visit) int64 {
	if v.at == 0 {
		v.at = t.now()
	}
	return v.at
}

// outdate forgets the clock, because the call begins to wait.
func (v *visit) outdate() { v.at, v.waited = 0, true }

func (t *Throttler) deadline(s *settings, v *visit) int64 {
	if s.cfg.MaxWait > 0 {
		return t.read(v) + int64(s.cfg.MaxWait)
	}
	return forever
}

const forever = 1<<63 - 1

// pass waits for the fraction, and for tokens if it must. counted reports that the
// pacer counts the caller.
func (t *Throttler) pass(ctx context.Context, s *settings, c Cost, until int64, tokens, virtual bool, v *visit) (counted bool, err error) {
	if t.sampler.engaged.Load() {
		// A request with a deadline that waits long for the fraction is admitted
		// only to be late: its work would be wasted in every stage.
		last, hurry := until, false
		if !virtual && s.cfg.Queue.Discipline != QueueInOrder {
			if deadline, ok := hurried(ctx); ok {
				if most := t.now() + max(0, int64(time.Until(deadline))/16); most < last {
					last, hurry = most, true
				}
			}
		}
		counted, err = t.pacer.wait(ctx, last, virtual, v)
		if hurry && err == error(waitError(ReasonMaxWait)) {
			err = waitError(ReasonFraction)
		}
		if err != nil {
			return false, t.failed(s, c, err, StageFraction)
		}
	}
	if !tokens {
		return counted, nil
	}
	if err := t.waitTokens(ctx, s, c, until, v); err != nil {
		if counted && !virtual {
			t.pacer.done(t.now())
		}
		return false, err
	}
	return counted, nil
}

func (t *Throttler) waitTokens(ctx context.Context, s *settings, c Cost, until int64, v *visit) error {
	if _, _, ok := t.takeTokens(s, c, 0, v); ok {
		return nil // most need not wait, and so need not know how long they may
	}
	now := t.read(v)
	patience := int64(forever>>bucketShift) >> 1
	reason := ReasonMaxWait
	if until != forever {
		patience = until - now
	}
	if deadline, ok := ctx.Deadline(); ok {
		if left := int64(time.Until(deadline)); left < patience {
			patience, reason = left, ReasonDeadline
		}
	}
	wait, w, ok := t.takeTokens(s, c, bucketTime(max(0, min(patience, 1<<50))), v)
	if !ok {
		return t.refuse(s, c, reason, StageTokens, w, time.Duration(wait>>bucketShift)+1)
	}
	if wait == 0 {
		return nil
	}
	v.outdate()
	t.counters.pacing.Add(1)
	t.counters.waits.begin(now)
	defer t.counters.waits.end(t, now)
	timer := time.NewTimer(time.Duration(wait>>bucketShift) + 1)
	defer timer.Stop()
	defer t.counters.pacing.Add(-1)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		t.refundTokens(s, c)
		t.counters.refused[ReasonCanceled].Add(1)
		return ctx.Err()
	}
}

// failed turns what ended a wait into the error that the caller sees.
func (t *Throttler) failed(s *settings, c Cost, err error, stage Stage) error {
	if stop, ok := err.(waitError); ok {
		return t.refuse(s, c, Reason(stop), stage, Messages, 0)
	}
	t.counters.refused[ReasonCanceled].Add(1)
	return err
}

// A waitError ends a wait for a reason other than its context.
type waitError Reason

func (e waitError) Error() string { return Reason(e).String() }
