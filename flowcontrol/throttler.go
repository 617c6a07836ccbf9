package flowcontrol

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Throttler decides what may proceed. It is made by [New]; all of its
// methods are safe for concurrent use.
//
// One lock guards all of it. Whatever a call changes or decides, it does so
// under the lock and by the settings in force at that moment; no copy of a
// setting outlives a wait. The lock is never held while anything blocks, and no
// user code runs under it.
type Throttler struct {
	settings atomic.Pointer[Config] // with its defaults; also read without the lock
	base     time.Time

	reconfigure sync.Mutex // serializes Reconfigure, which may let go of mu

	mu      sync.Mutex
	cfg     *Config // of settings
	version uint64  // of cfg
	at      int64   // the clock, as the holder of the lock has read it; 0 = not yet

	bound    Cost // the limits in force; unlimited = none
	inFlight Cost
	permits  int64
	pressed  bool
	rated    bool // buckets has any
	sampler  sampler
	duty     duty
	buckets  buckets
	learner  learner
	tenants  tenants
	line     line

	records [][]record // all of them
	free    *record

	completed uint64
	ended     [outcomes]uint64
	counters
}

// New returns a Throttler, or one error that joins every problem of cfg.
func New(cfg Config) (*Throttler, error) {
	s, err := newSettings(cfg)
	if err != nil {
		return nil, err
	}
	t := &Throttler{base: time.Now()}
	t.sampler.set(1)
	t.sampler.state = rand.Uint64()
	if cfg.Seed != 0 {
		t.sampler.state = rand.NewPCG(cfg.Seed, golden).Uint64() // neighbouring seeds start far apart
	}
	t.line.armed = forever
	t.lock()
	defer t.mu.Unlock()
	t.adoptLocked(s)
	return t, nil
}

func newSettings(cfg Config) (*Config, error) {
	cfg = cfg.withDefaults()
	return &cfg, cfg.validate()
}

// adoptLocked puts settings in force.
func (t *Throttler) adoptLocked(s *Config) {
	t.version++
	t.cfg = s
	t.settings.Store(s)
	t.buckets.set(s.Rate, s.Burst, bucketTime(t.nowLocked()))
	t.rated = t.buckets.any()
	limit := s.Limit.Messages
	if limit < 0 {
		limit = unlimited
	}
	t.learner.configure(s.Adaptive, limit)
	t.setBoundLocked()
}

// lock takes the lock, before anything has read the clock.
func (t *Throttler) lock() {
	t.mu.Lock()
	t.at = 0
}

// nowLocked is the time of this holder of the lock, in nanoseconds since New, at
// least 1. The clock is read when it is first needed, and once: what is decided
// together happens at one moment.
func (t *Throttler) nowLocked() int64 {
	if t.at == 0 {
		t.at = int64(time.Since(t.base)) + 1
	}
	return t.at
}

// advanceLocked brings the duty's integral up to now, before what it depends on
// changes.
func (t *Throttler) advanceLocked() {
	if !t.sampler.open() {
		t.duty.advance(t.nowLocked(), t.sampler.fraction, t.line.length, t.bound.Messages)
	}
}

// begin takes the lock for a call, and finds its tenant.
func (t *Throttler) begin(ctx context.Context, s *Config, q *request) {
	if s.MaxKeys == 0 {
		t.lock()
		return
	}
	key := KeyFrom(ctx)
	t.lock()
	q.tenant = t.tenantLocked(key)
}

// tenantLocked returns the tenant of the key, or nil where tenants are not told
// apart any more. Where KeyRateOf has to be asked, it lets go of the lock
// meanwhile.
func (t *Throttler) tenantLocked(key string) *tenant {
	for t.cfg.MaxKeys > 0 {
		who := t.tenants.of(key, t.cfg.MaxKeys)
		if who.version == t.version {
			return who
		}
		version, rates, burst := t.version, t.cfg.KeyRate, t.cfg.KeyBurst
		if of := t.cfg.KeyRateOf; of != nil && who != &t.tenants.rest {
			t.mu.Unlock()
			rates, burst = of(key)
			rates, burst = rates.orNone(burst)
			t.lock()
			if version != t.version {
				continue
			}
			who = t.tenants.of(key, t.cfg.MaxKeys) // it may have been forgotten
		}
		who.rates.set(rates, burst, bucketTime(t.nowLocked()))
		who.version = version
		who.recount()
		return who
	}
	return nil
}

// TryAcquire admits c now or rejects it; it never blocks. Of ctx it uses the
// tenant key and the priority only. While others wait, it takes what those
// before it cannot use now, and nothing else. Rejected, it changes nothing.
func (t *Throttler) TryAcquire(ctx context.Context, c Cost) (Permit, error) {
	s := t.settings.Load()
	if s.Mode == Off {
		return Permit{}, nil
	}
	q := request{verb: try, cost: c.clean()}
	t.begin(ctx, s, &q)
	if !t.enforcesLocked() {
		return t.observeAndUnlock(&q)
	}
	v := verdict{reason: ReasonFraction}
	if t.sampler.open() || t.sampler.admit() {
		v = t.decideLocked(&q, t.line.length+1)
	}
	if v.reason == ReasonNone && t.line.length > 0 {
		level := PriorityFrom(ctx).level()
		if v = t.decideBehindLineLocked(&q, level); v.reason == ReasonNone {
			t.line.overtake(level)
		}
	}
	if v.reason == ReasonNone {
		p := t.admitLocked(&q)
		t.mu.Unlock()
		return p, nil
	}
	return Permit{}, t.rejectAndUnlock(&q, v)
}

// decideBehindLineLocked decides on a call that does not wait, while others do.
// Where those before it wait for the fraction, which sheds q by its own rule,
// q takes nothing from them.
func (t *Throttler) decideBehindLineLocked(q *request, level int) verdict {
	t.walkLocked() // time may have made room for those that wait
	l := &t.line
	whole := l.ended != ReasonNone && l.ended != ReasonFraction && len(l.skipped) == 0
	if whole || l.barred(level, t.cfg.Queue.Passes) {
		return verdict{reason: ReasonInFlight}
	}
	return t.decideLocked(q, l.length+1)
}

// observeAndUnlock admits q whatever the gate says, and counts what it would
// have said.
func (t *Throttler) observeAndUnlock(q *request) (Permit, error) {
	defer t.mu.Unlock()
	if t.cfg.Mode == Off {
		return Permit{}, nil
	}
	if !t.sampler.open() && !t.sampler.admit() {
		t.would[ReasonFraction]++
	}
	if v := t.decideLocked(q, t.line.length+1); v.reason != ReasonNone {
		t.would[v.reason]++
	}
	return t.admitLocked(q), nil
}

// Charge books work that is done already, or whose size became known late: its
// rows and bytes, say, once it was decoded. The tokens, those of the tenant in
// ctx too, may go into debt, by two bursts at most, and later calls wait for it.
// It never blocks.
func (t *Throttler) Charge(ctx context.Context, c Cost) {
	s := t.settings.Load()
	if s.Mode == Off {
		return
	}
	q := request{cost: c.clean()}
	t.begin(ctx, s, &q)
	defer t.mu.Unlock()
	now := bucketTime(t.nowLocked())
	t.buckets.take(q.cost, now)
	if q.tenant != nil {
		q.tenant.rates.take(q.cost, now)
	}
	if t.line.length > 0 {
		t.walkLocked()
	}
}

// SetFraction sets the share of the work that is admitted, 0..1. Values
// outside are taken as the nearest end, and what is smaller than one in a
// billion as 0; NaN is ignored.
func (t *Throttler) SetFraction(f float64) {
	if math.IsNaN(f) {
		return
	}
	if f = min(f, 1); f < leastFraction {
		f = 0
	}
	t.lock()
	defer t.mu.Unlock()
	if t.sampler.open() {
		t.duty.start(t.nowLocked())
	}
	t.advanceLocked()
	t.sampler.set(f)
	if t.sampler.open() {
		t.duty.stop()
	}
	t.walkLocked()
}

// Fraction returns the admitted fraction, 1 at first.
func (t *Throttler) Fraction() float64 {
	t.lock()
	defer t.mu.Unlock()
	return t.sampler.fraction
}

// SetPressure says, for [EnforceUnderPressure], that there is pressure of a
// kind that the Throttler cannot see, for example of memory.
func (t *Throttler) SetPressure(on bool) {
	t.lock()
	defer t.mu.Unlock()
	t.pressed = on
	t.walkLocked()
}

// InFlight returns what is admitted and not yet released.
func (t *Throttler) InFlight() Cost {
	t.lock()
	defer t.mu.Unlock()
	return t.inFlight
}

// Limit returns the in-flight limit in force; a negative weight has none.
func (t *Throttler) Limit() Cost {
	t.lock()
	defer t.mu.Unlock()
	return t.limitLocked()
}

func (t *Throttler) limitLocked() Cost {
	limit := t.bound
	for _, n := range []*int64{&limit.Messages, &limit.Rows, &limit.Bytes} {
		if *n == unlimited {
			*n = -1
		}
	}
	return limit
}

// Load returns the largest of in flight / limit over the weights that have a
// limit. It can exceed 1 after a limit was lowered, and while observing.
func (t *Throttler) Load() float64 {
	t.lock()
	defer t.mu.Unlock()
	return t.loadLocked()
}

func (t *Throttler) loadLocked() float64 {
	load := 0.0
	for w := range Weight(weights) {
		if l := t.bound.Of(w); l != unlimited {
			load = max(load, float64(t.inFlight.Of(w))/float64(l))
		}
	}
	return load
}

// Config returns the configuration in force, with its defaults filled in.
func (t *Throttler) Config() Config { return *t.settings.Load() }

// Reconfigure replaces the configuration, for those that wait too. What is in
// flight, who waits, the fraction, the tokens in the buckets and what the
// adaptive limit has learned stay as they are: a lower limit admits nothing
// until enough has been released. A bucket that begins to exist is full, and a
// larger burst fills at the rate. On error nothing changes. Seed is ignored.
func (t *Throttler) Reconfigure(cfg Config) error {
	s, err := newSettings(cfg)
	if err != nil {
		return err
	}
	t.reconfigure.Lock()
	defer t.reconfigure.Unlock()
	t.lock()
	defer t.mu.Unlock()
	t.advanceLocked()
	t.adoptLocked(s)
	t.rebuildLocked()
	for _, key := range slices.Collect(maps.Keys(t.tenants.known)) {
		t.tenantLocked(key)
	}
	if rest := &t.tenants.rest; s.MaxKeys > 0 { // nobody may call for it, but some may wait
		rest.rates.set(s.KeyRate, s.KeyBurst, bucketTime(t.nowLocked()))
		rest.version = t.version
		rest.recount()
	}
	t.passLocked() // before the queue is shortened: some may go now
	t.shortenLocked()
	t.settleLocked()
	return nil
}
