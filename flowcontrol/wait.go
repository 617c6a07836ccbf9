package flowcontrol

import (
	"context"
	"time"
)

// Acquire waits until c may proceed, and returns its permit. It waits for the
// fraction, for tokens and for room in flight at once, no longer than ctx,
// Config.MaxWait and the queue allow; see [QueueConfig]. Where tokens would come
// too late for either, it is rejected at once. A call that ends with its context
// returns the context's error; any other failure is an [*Error]. On failure
// nothing has changed.
func (t *Throttler) Acquire(ctx context.Context, c Cost) (Permit, error) {
	return t.wait(ctx, request{verb: acquire, cost: c.clean()})
}

// Pace waits for the fraction and for tokens, and holds nothing: it is for a
// sender that wants to be slowed before it hands its next message on. The time
// from one Pace to the next, up to 250 ms, counts as the sender's work. It
// fails as Acquire does.
func (t *Throttler) Pace(ctx context.Context, c Cost) error {
	_, err := t.wait(ctx, request{verb: pace, cost: c.clean()})
	return err
}

// wait is Acquire and Pace.
func (t *Throttler) wait(ctx context.Context, q request) (Permit, error) {
	s := t.settings.Load()
	if s.Mode == Off {
		return Permit{}, nil
	}
	if err := ctx.Err(); err != nil {
		t.lock()
		defer t.mu.Unlock()
		t.rejected[ReasonCanceled]++
		return Permit{}, err
	}
	t.begin(ctx, s, &q)
	if q.verb == pace && len(t.duty.unheld) > 0 {
		t.advanceLocked()
		if len(t.duty.unheld) > 0 {
			t.duty.endUnheld()
			t.walkLocked() // q may be rejected, and leave its share to others
		}
	}
	if !t.enforcesLocked() {
		return t.observeAndUnlock(&q)
	}
	v := t.decideLocked(&q, t.line.length+1)
	if v.reason == ReasonOversized {
		return Permit{}, t.rejectAndUnlock(&q, v)
	}
	if v.reason == ReasonNone && t.line.length == 0 {
		p := t.admitLocked(&q)
		t.mu.Unlock()
		return p, nil
	}
	t.mu.Unlock()
	return t.waitInLine(ctx, &waiter{request: q})
}

// waitInLine waits for the answer to w.
func (t *Throttler) waitInLine(ctx context.Context, w *waiter) (Permit, error) {
	w.ready = make(chan struct{}, 1)
	w.key, w.level, w.until = KeyFrom(ctx), PriorityFrom(ctx).level(), forever
	_, hurried := hurry(ctx)
	w.patient = !hurried
	deadline, bounded := ctx.Deadline()

	t.lock()
	now := t.nowLocked()
	if bounded {
		w.until = now + max(0, int64(time.Until(deadline)))
	}
	w.since, w.lookSince = now, now
	if w.tenant != nil {
		w.tenant = t.tenantLocked(w.key) // it may have been forgotten
	}
	if v := t.enterLocked(w); v.reason != ReasonNone {
		return Permit{}, t.rejectAndUnlock(&w.request, v)
	}
	t.mu.Unlock()

	select {
	case <-w.ready:
	case <-ctx.Done():
		if t.cancel(w) {
			return Permit{}, ctx.Err()
		}
		// The answer came first, and stands: its tokens are spent.
		<-w.ready
	}
	if w.rejected.Reason != ReasonNone {
		return Permit{}, t.shared(w.rejected)
	}
	return w.permit, nil
}

// enterLocked puts w into the line, where it may be admitted at once, or says
// why it should not even wait.
func (t *Throttler) enterLocked(w *waiter) verdict {
	if v := t.tooLateLocked(w); v.reason != ReasonNone {
		return v
	}
	if !t.placeLocked(w) {
		// It may still go, if it need not wait.
		v := t.decideBehindLineLocked(&w.request, w.level)
		if v.reason != ReasonNone || t.line.ended != ReasonNone {
			return verdict{reason: ReasonQueueFull, weight: v.weight}
		}
		t.line.overtake(w.level)
		w.permit = t.admitLocked(&w.request)
		w.ready <- struct{}{}
		return verdict{}
	}
	t.joinLocked(w)
	t.walkLocked()
	if w.element != nil { // it has to wait indeed
		w.measured = true
		t.waits.begin(w.since)
		w.lookKind = t.kindLocked(w)
		t.setLookLocked(w)
		t.armLocked()
	}
	return verdict{}
}

// tooLateLocked reports whether the tokens for w, and for those before it, come
// later than w may wait. They come at a known time, so there is no use in waiting.
func (t *Throttler) tooLateLocked(w *waiter) verdict {
	if !t.enforcesLocked() || !t.tokensEnforcedLocked() {
		return verdict{}
	}
	need, weight, own := t.tokensInLocked(&w.request, w.level)
	v := verdict{weight: weight, after: need}
	switch {
	case need > w.until-t.nowLocked():
		v.reason = ReasonDeadline
	case t.cfg.MaxWait > 0 && need > int64(t.cfg.MaxWait):
		v.reason = ReasonMaxWait
	default:
		return verdict{}
	}
	if own {
		v.reason = ReasonTenantRate // which no other server, and no other tenant, would help with
	}
	return v
}

// tokensInLocked is how long it takes, in nanoseconds, until the tokens for q are
// there, after those of everybody that waits at its level or above, in the common
// buckets and in its tenant's. own says that its tenant's come last.
func (t *Throttler) tokensInLocked(q *request, level int) (after int64, weight Weight, own bool) {
	if !t.rated && (q.tenant == nil || !q.tenant.rates.any()) {
		return 0, Messages, false
	}
	now := bucketTime(t.nowLocked())
	var before Cost
	for i := range level + 1 {
		before = before.Add(t.line.ahead[i])
	}
	need, weight := t.buckets.waitBehind(before, q.cost, now)
	if q.tenant != nil && t.cfg.MaxKeys > 0 {
		before = Cost{}
		for i := range level + 1 {
			before = before.Add(q.tenant.ahead[i])
		}
		if d, w := q.tenant.rates.waitBehind(before, q.cost, now); d > need {
			need, weight, own = d, w, true
		}
	}
	return nanoseconds(need), weight, own
}

// cancel takes w out of the line; false means that it has its answer.
func (t *Throttler) cancel(w *waiter) bool {
	t.lock()
	defer t.mu.Unlock()
	if w.element == nil {
		return false
	}
	t.leaveLocked(w)
	if w.measured {
		t.waits.end(t.nowLocked(), w.since)
	}
	t.rejected[ReasonCanceled]++
	t.walkLocked() // it may have been in the way
	return true
}
