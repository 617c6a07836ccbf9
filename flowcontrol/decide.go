package flowcontrol

// A verb is how a call asks.
type verb uint8

const (
	try     verb = iota // now or never; shed by the sampler
	acquire             // waits; slowed by the duty
	pace                // waits as acquire does, and holds nothing
)

// A request is what one call asks of the gate.
type request struct {
	verb   verb
	cost   Cost
	tenant *tenant // nil where tenants are not told apart
}

// A verdict is the gate's answer to a request at one moment.
type verdict struct {
	reason Reason // ReasonNone: it may go
	weight Weight
	// after is how long it takes, in nanoseconds, until time alone changes the
	// answer; 0 where something else has to happen first.
	after int64
	// all says that the reason holds back everything that waits.
	all bool
}

// unlimited stands for no limit inside of the gate, so that a comparison needs
// no second case.
const unlimited = int64(1<<63 - 1)

// countable is the most that one cost counts for in flight: one leaves room for
// others where nothing limits a weight, and two of it fit nowhere.
const countable = int64(1) << 62

// decideLocked is the one decision of the gate: whether q may go now, under the
// settings in force, and if not, why. It changes nothing. What never fits comes
// first, then what holds everything back, the tenant, and the size. waiting is
// how many wait, q included.
func (t *Throttler) decideLocked(q *request, waiting int) verdict {
	cfg := t.cfg
	if cfg.RejectOversized {
		if w, never := t.neverFits(q); never {
			return verdict{reason: ReasonOversized, weight: w}
		}
	}
	if q.verb != try && !t.sampler.open() && cfg.Mode != Observe {
		t.advanceLocked()
		f, limit := t.sampler.fraction, t.bound.Messages
		if !t.duty.admits(f, waiting, limit) {
			return verdict{reason: ReasonFraction, after: t.duty.due(t.nowLocked(), f, waiting, limit), all: true}
		}
	}
	holds := q.verb != pace
	if holds && q.cost.Messages > 0 && t.inFlight.Messages >= t.bound.Messages {
		return verdict{reason: ReasonInFlight, all: true}
	}
	fit := t.fitLocked(q)
	if q.tenant != nil && cfg.MaxKeys > 0 {
		if q.tenant.rates.any() && t.tokensEnforcedLocked() {
			if d, w := q.tenant.rates.wait(q.cost, bucketTime(t.nowLocked())); d > 0 {
				return verdict{reason: ReasonTenantRate, weight: w, after: nanoseconds(d)}
			}
		}
		if holds && t.overShareLocked(q.tenant, fit) {
			return verdict{reason: ReasonShare}
		}
	}
	if t.rated && !t.buckets.covered(q.cost) && t.tokensEnforcedLocked() {
		now := bucketTime(t.nowLocked())
		if d, w := t.buckets.wait(q.cost, now); d > 0 {
			b := &t.buckets[Messages]
			all := q.cost.Messages > 0 && b.rate > 0 && b.prepaid == 0 && b.wait(1, now) > 0
			if all { // a smaller one may go before
				d = b.wait(1, now)
			}
			return verdict{reason: ReasonRate, weight: w, after: nanoseconds(d), all: all}
		}
	}
	switch {
	case fit.Messages > 0 && t.inFlight.Messages > t.bound.Messages-fit.Messages:
		return verdict{reason: ReasonInFlight, weight: Messages}
	case fit.Rows > 0 && t.inFlight.Rows > t.bound.Rows-fit.Rows:
		return verdict{reason: ReasonInFlight, weight: Rows}
	case fit.Bytes > 0 && t.inFlight.Bytes > t.bound.Bytes-fit.Bytes:
		return verdict{reason: ReasonInFlight, weight: Bytes}
	}
	return verdict{}
}

// fitLocked returns what q would hold in flight: an oversized cost shrinks to
// the whole limit, so that it runs alone.
func (t *Throttler) fitLocked(q *request) Cost {
	if q.verb == pace {
		return Cost{}
	}
	return Cost{
		min(q.cost.Messages, t.bound.Messages, countable),
		min(q.cost.Rows, t.bound.Rows, countable),
		min(q.cost.Bytes, t.bound.Bytes, countable),
	}
}

// neverFits reports whether q is larger than a limit or a burst that is
// configured. A limit that was lowered by what the gate learned does not count:
// it grows again.
func (t *Throttler) neverFits(q *request) (Weight, bool) {
	most := t.cfg.Limit
	if t.cfg.Adaptive.Mode == AdaptiveOn {
		most.Messages = t.cfg.Adaptive.Max
	}
	for w := range Weight(weights) {
		n := q.cost.Of(w)
		if limit := most.Of(w); q.verb != pace && limit >= 0 && n > limit {
			return w, true
		}
		if b := &t.buckets[w]; b.rate > 0 && n > b.burst {
			return w, true
		}
		if q.tenant != nil {
			if b := &q.tenant.rates[w]; b.rate > 0 && n > b.burst {
				return w, true
			}
		}
	}
	return 0, false
}

// tokensEnforcedLocked reports whether tokens are enforced at this moment, or
// only counted.
func (t *Throttler) tokensEnforcedLocked() bool {
	if t.cfg.Mode != EnforceUnderPressure {
		return true
	}
	return t.pressed || !t.sampler.open() || t.cfg.PressureLoad > 0 && t.loadLocked() >= t.cfg.PressureLoad
}

// admitLocked takes tokens, room and a permit for q, which may go.
func (t *Throttler) admitLocked(q *request) Permit {
	if t.rated {
		var now int64
		if !t.buckets.covered(q.cost) {
			now = bucketTime(t.nowLocked())
		}
		t.buckets.take(q.cost, now)
	}
	if q.tenant != nil && q.tenant.rates.any() {
		q.tenant.rates.take(q.cost, bucketTime(t.nowLocked()))
	}
	if q.verb == pace {
		if !t.sampler.open() {
			t.advanceLocked()
			t.duty.working++
			t.duty.unheld = append(t.duty.unheld, t.nowLocked())
		}
		return Permit{}
	}
	fit := t.fitLocked(q)
	// While observing, the limits do not bound what is in flight; what can be
	// counted does.
	fit = Cost{
		min(fit.Messages, unlimited-t.inFlight.Messages),
		min(fit.Rows, unlimited-t.inFlight.Rows),
		min(fit.Bytes, unlimited-t.inFlight.Bytes),
	}
	r := t.takeRecordLocked()
	r.held, r.cost, r.tenant, r.ends = true, fit, q.tenant, t.completed
	if t.learner.timed() {
		r.start = t.nowLocked()
	}
	if q.verb == acquire {
		t.advanceLocked()
		t.duty.working++
		r.dutied = true
	}
	t.inFlight.Messages += fit.Messages
	t.inFlight.Rows += fit.Rows
	t.inFlight.Bytes += fit.Bytes
	t.peaks.raise(t.inFlight)
	t.learner.peak = max(t.learner.peak, t.inFlight.Messages)
	if q.tenant != nil {
		q.tenant.inFlight = q.tenant.inFlight.Add(fit)
	}
	t.permits++
	return Permit{r, r.generation}
}

// release is Permit.Release.
func (t *Throttler) release(p Permit, o Outcome) {
	t.lock()
	if r := p.record; r.held && r.generation == p.generation {
		t.releaseLocked(r, min(o, outcomes-1))
	}
	t.mu.Unlock()
}

func (t *Throttler) releaseLocked(r *record, o Outcome) {
	held := t.inFlight.Messages
	t.giveBackLocked(r)
	t.completed++
	t.ended[o]++
	ends := float64(t.completed - r.ends)
	if t.learner.needsClock(o) {
		now, service := t.nowLocked(), int64(0)
		pressed := t.line.length > 0 || float64(held) >= 0.9*float64(t.bound.Messages)
		if r.start != 0 {
			service = now - r.start
		}
		if t.learner.finished(now, service, ends, o, r.tenant, pressed) {
			t.setBoundLocked()
		}
	} else if o == Success {
		t.learner.passed(ends)
	}
	t.freeRecordLocked(r)
	if t.line.length > 0 {
		t.walkLocked()
	}
}

// giveBackLocked returns what a record holds.
func (t *Throttler) giveBackLocked(r *record) {
	if r.dutied {
		t.advanceLocked()
		t.duty.working--
	}
	t.inFlight.Messages -= r.cost.Messages
	t.inFlight.Rows -= r.cost.Rows
	t.inFlight.Bytes -= r.cost.Bytes
	if r.tenant != nil {
		r.tenant.inFlight.Messages -= r.cost.Messages
		r.tenant.inFlight.Rows -= r.cost.Rows
		r.tenant.inFlight.Bytes -= r.cost.Bytes
	}
	t.permits--
}

// setBoundLocked puts the limits in force.
func (t *Throttler) setBoundLocked() {
	t.advanceLocked()
	bound := t.cfg.Limit
	for _, n := range []*int64{&bound.Messages, &bound.Rows, &bound.Bytes} {
		if *n < 0 {
			*n = unlimited
		}
	}
	bound.Messages = t.learner.limit(bound.Messages)
	t.bound = bound
}
