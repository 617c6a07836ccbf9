package flowcontrol

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Throttler decides what may proceed. It is made by [New]; all of its
// methods are safe for concurrent use.
type Throttler struct {
	settings atomic.Pointer[settings]
	base     time.Time

	stripes stripes
	flight  inflight
	sampler sampler
	buckets [weights]bucket
	queue   queue
	pacer   pacer
	adapt   adaptive
	tenants tenants
	guard   guard

	pressed  atomic.Bool
	counters counters
	watch    watchdog

	reconfigure sync.Mutex // serializes Reconfigure
}

// settings is what a Config comes to. It is never changed once published.
type settings struct {
	cfg     Config
	limit   Cost // without the adaptive limit
	tariffs [weights]*tariff
	rated   bool // any tariff
	plain   bool // enforces a limit on what is in flight, nothing more
	timed   bool // permits carry the time of their start
}

// New returns a Throttler, or one error that joins every problem of cfg.
func New(cfg Config) (*Throttler, error) {
	s, err := newSettings(cfg)
	if err != nil {
		return nil, err
	}
	t := &Throttler{base: time.Now()}
	seed := rand.Uint64()
	if cfg.Seed != 0 {
		seed = rand.NewPCG(cfg.Seed, golden).Uint64() // neighbouring seeds start far apart
	}
	t.stripes.init(t, seed, cfg.Seed != 0)
	t.sampler.set(1)
	t.flight.owner = t
	t.queue.owner = t
	t.pacer.owner = t
	t.adapt.flight = &t.flight
	t.settings.Store(s)
	t.adapt.configure(s.cfg.Adaptive)
	return t, nil
}

func newSettings(cfg Config) (*settings, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &settings{cfg: cfg, limit: cfg.Limit}
	for w := range Weight(weights) {
		s.tariffs[w] = newTariff(cfg.Rate.of(w), cfg.Burst.Of(w))
		s.rated = s.rated || s.tariffs[w] != nil
	}
	s.timed = cfg.Adaptive.Mode == AdaptiveOn
	s.plain = cfg.Mode == Enforce && !s.timed && !s.rated && cfg.MaxKeys <= 0
	return s, nil
}

// TryAcquire admits c now or refuses it; it never blocks. Of ctx it uses the
// tenant key and the priority only. Refused, it changes nothing.
func (t *Throttler) TryAcquire(ctx context.Context, c Cost) (Permit, error) {
	s := t.settings.Load()
	if s.cfg.Mode == Off {
		return Permit{}, nil
	}
	if s.plain && !t.sampler.engaged.Load() && t.queue.waiting.Load() == 0 {
		if c.Messages|c.Rows|c.Bytes >= 0 {
			if p, _, ok := t.flight.acquire(t.stripes.mine(), c, s.limit); ok {
				return p, nil
			}
		}
	}
	return t.try(ctx, s, c.clean())
}

// try is the whole of TryAcquire.
func (t *Throttler) try(ctx context.Context, s *settings, c Cost) (Permit, error) {
	v := visit{home: t.stripes.mine()}
	if s.cfg.Mode == Observe {
		return t.observe(ctx, s, c, v.home), nil
	}
	if t.sampler.engaged.Load() && !t.sampler.admit(v.home) {
		return Permit{}, t.refuse(s, c, ReasonFraction, StageFraction, Messages, 0)
	}
	limit := t.limit(s)
	fit, w, never := fitting(s, c, limit)
	if never {
		return Permit{}, t.refuse(s, c, ReasonOversized, StageInFlight, w, Never)
	}
	if t.flight.full(v.home, fit.Messages, limit.Messages) {
		// Seen before a token is spent on it. The common case of overload.
		return Permit{}, t.refuse(s, c, ReasonInFlight, StageInFlight, Messages, 0)
	}
	var now int64
	if s.timed {
		now = t.now()
		v.at = now
	}
	enforced := s.rated && t.enforcesTokens(s)
	if enforced {
		if wait, w, ok := t.takeTokens(s, c, 0, &v); !ok {
			return Permit{}, t.refuse(s, c, ReasonRate, StageTokens, w, time.Duration(wait>>bucketShift)+1)
		}
	}
	p, reason, w := t.enter(ctx, s, fit, limit, now, v.home)
	switch {
	case reason != ReasonNone:
		if enforced {
			t.refundTokens(s, c)
		}
		return Permit{}, t.refuse(s, c, reason, StageInFlight, w, 0)
	case s.rated && !enforced:
		t.chargeTokens(s, c)
	}
	return p, nil
}

// enter takes room in flight without waiting, and never ahead of those who
// wait already, unless they wait for more room than there is.
func (t *Throttler) enter(ctx context.Context, s *settings, c, limit Cost, now int64, home *stripe) (Permit, Reason, Weight) {
	var who *tenant
	if s.cfg.MaxKeys > 0 {
		who = t.tenants.of(KeyFrom(ctx), s.cfg.MaxKeys)
		if !who.join(t, c, limit) {
			return Permit{}, ReasonShare, Messages
		}
	}
	var p Permit
	var w Weight
	ok := false
	if t.queue.waiting.Load() > 0 {
		p, w, ok = t.queue.overtake(home, c, limit)
	} else {
		p, w, ok = t.flight.acquire(home, c, limit)
	}
	if !ok {
		who.leave(c.Messages)
		return Permit{}, ReasonInFlight, w
	}
	return t.begin(s, p, who, now), ReasonNone, 0
}

// begin notes whose work a permit stands for, if anybody's, and when it began.
func (t *Throttler) begin(s *settings, p Permit, who *tenant, now int64) Permit {
	if who != nil {
		p = p.noted()
		p.slot.notes.key = who
	}
	if s.timed {
		p = p.noted()
		p.slot.notes.start = now
	}
	return p
}

// observe admits c whatever the gates say, and counts what they would have said.
func (t *Throttler) observe(ctx context.Context, s *settings, c Cost, home *stripe) Permit {
	if t.sampler.engaged.Load() && !t.sampler.admit(home) {
		t.counters.would[ReasonFraction].Add(1)
	}
	limit := t.limit(s)
	if s.rated {
		now := bucketTime(t.now())
		for w, tariff := range s.tariffs {
			if n := c.Of(Weight(w)); tariff != nil && n > 0 && home.credit[w].Load() < n && t.buckets[w].peek(tariff, n, now, s.cfg.Oversized == RunAlone) > 0 {
				t.counters.would[ReasonRate].Add(1)
				break
			}
		}
		t.chargeTokens(s, c)
	}
	if f := t.flight.cost(); over(f.Messages, c.Messages, limit.Messages) || over(f.Rows, c.Rows, limit.Rows) || over(f.Bytes, c.Bytes, limit.Bytes) {
		t.counters.would[ReasonInFlight].Add(1)
	}
	p, _, ok := t.flight.acquire(home, c, Cost{-1, -1, -1})
	if !ok {
		return Permit{} // beyond what can be counted
	}
	var who *tenant
	if s.cfg.MaxKeys > 0 {
		who = t.tenants.of(KeyFrom(ctx), s.cfg.MaxKeys)
		who.inFlight.Add(c.Messages)
	}
	return t.begin(s, p, who, t.now())
}

func over(inFlight, n, limit int64) bool { return limit >= 0 && n > 0 && inFlight > limit-n }

// release is Permit.Release at a time that is known, or 0.
func (t *Throttler) release(p Permit, o Outcome, now int64) {
	notes, ok := t.flight.release(p)
	if !ok {
		return
	}
	notes.key.leave(notes.messages)
	if notes.start != 0 || p.gen&pacedBit != 0 {
		if now == 0 {
			now = t.now()
		}
		if notes.start != 0 {
			t.adapt.finished(now, now-notes.start, o)
		}
		if p.gen&pacedBit != 0 {
			t.pacer.done(now)
		}
	}
	if o != Success {
		t.counters.ended[min(o, outcomes-1)].Add(1)
		if o == Dropped {
			t.guard.dropped(t)
		}
	}
	if t.queue.waiting.Load() > 0 {
		t.queue.grant()
	}
}

// undo takes back an admission that nobody used.
func (t *Throttler) undo(p Permit) {
	t.counters.undone.Add(1)
	if p.gen&notedBit != 0 {
		p.slot.notes.start = 0
	}
	t.release(p, Success, 0)
}

// maxUnlimited is the most that one cost counts for in flight: two of it fit
// nowhere, but one leaves room for others.
const maxUnlimited = 1 << 62

// fitting returns c as the limits see it: an oversized cost shrinks to the
// whole limit, so that it runs alone, or never fits.
func fitting(s *settings, c, limit Cost) (fit Cost, w Weight, never bool) {
	fit = c
	if limit.Messages >= 0 && c.Messages > limit.Messages {
		fit.Messages, w, never = limit.Messages, Messages, true
	}
	if limit.Rows >= 0 && c.Rows > limit.Rows {
		fit.Rows, w, never = limit.Rows, Rows, true
	}
	if limit.Bytes >= 0 && c.Bytes > limit.Bytes {
		fit.Bytes, w, never = limit.Bytes, Bytes, true
	}
	// Where nothing limits a weight, what can be counted does.
	fit = Cost{min(fit.Messages, MaxMessages), min(fit.Rows, maxUnlimited), min(fit.Bytes, maxUnlimited)}
	never = never && s.cfg.Oversized == RefuseOversized
	if !never && s.rated && s.cfg.Oversized == RefuseOversized {
		for i, t := range s.tariffs {
			if t != nil && c.Of(Weight(i)) > t.burst {
				return fit, Weight(i), true
			}
		}
	}
	return fit, w, never
}

// limit is what may be in flight now.
func (t *Throttler) limit(s *settings) Cost {
	limit := s.limit
	if s.timed {
		limit.Messages = t.adapt.limit.Load()
	}
	return limit
}

// messageLimit is Limit().Messages, which the pacer asks for at each step.
func (t *Throttler) messageLimit() int64 {
	s := t.settings.Load()
	if s.timed {
		return t.adapt.limit.Load()
	}
	return s.limit.Messages
}

// now is the throttler's monotonic clock in nanoseconds, at least 1.
func (t *Throttler) now() int64 { return max(int64(time.Since(t.base)), 0) + 1 }

// Clock returns what the Throttler's own clock shows at the time now. It only
// ever goes forward, at the pace of time.Now, so a caller can go on from there by
// itself: [Throttler.AcquireAt], [Throttler.PaceAt] and [Permit.ReleaseAt] take such times.
func (t *Throttler) Clock(now time.Time) time.Duration { return max(now.Sub(t.base), 0) + 1 }

// SetFraction sets the share of the work that is admitted, 0..1. Values
// outside are taken as the nearest end; NaN is ignored.
func (t *Throttler) SetFraction(f float64) {
	if math.IsNaN(f) {
		return
	}
	t.pacer.setFraction(min(max(f, 0), 1))
}

// Fraction returns the admitted fraction, 1 at first.
func (t *Throttler) Fraction() float64 { return t.sampler.fraction() }

// SetPressure says, for [EnforceUnderPressure], that there is pressure of a
// kind that the Throttler cannot see, for example of memory.
func (t *Throttler) SetPressure(on bool) { t.pressed.Store(on) }

// InFlight returns what is admitted and not yet released.
func (t *Throttler) InFlight() Cost { return t.flight.cost() }

// Limit returns the in-flight limit in force; a negative weight has none.
func (t *Throttler) Limit() Cost { return t.limit(t.settings.Load()) }

// Load returns the largest of in flight / limit over the weights that have a
// limit. It can exceed 1 after a limit was lowered, and while observing.
func (t *Throttler) Load() float64 { return load(t.flight.cost(), t.Limit()) }

func load(inFlight, limit Cost) float64 {
	worst := 0.0
	for w := range Weight(weights) {
		if l := limit.Of(w); l > 0 {
			worst = max(worst, float64(inFlight.Of(w))/float64(l))
		}
	}
	return worst
}

// Config returns the configuration in force, with its defaults filled in.
func (t *Throttler) Config() Config { return t.settings.Load().cfg }

// Reconfigure replaces the configuration. What is in flight, what waits, the
// fraction and the tokens that were used stay as they are: a lower limit
// admits nothing until enough has been released. On error nothing changes.
// Seed is ignored.
func (t *Throttler) Reconfigure(cfg Config) error {
	s, err := newSettings(cfg)
	if err != nil {
		return err
	}
	t.reconfigure.Lock()
	defer t.reconfigure.Unlock()
	old := t.settings.Load()
	at := bucketTime(t.now())
	for w := range t.buckets {
		t.buckets[w].rescale(old.tariffs[w], s.tariffs[w], at)
	}
	t.adapt.configure(s.cfg.Adaptive)
	t.settings.Store(s)
	t.queue.grant()
	t.pacer.poke()
	return nil
}
