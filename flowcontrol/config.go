package flowcontrol

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// A Rate is a number of tokens per second.
type Rate float64

// Rates are token rates by weight, per second. Zero or negative: no rate.
type Rates struct{ Messages, Rows, Bytes Rate }

func (r Rates) of(w Weight) Rate { return [weights]Rate{r.Messages, r.Rows, r.Bytes}[w] }

// A Mode says what a Throttler does with its decisions.
type Mode uint8

// The modes. The zero Mode enforces.
const (
	// Enforce rejects, or makes wait, what does not fit.
	Enforce Mode = iota
	// Observe admits everything, keeps every count, and counts by reason what
	// Enforce would have rejected or delayed.
	Observe
	// EnforceUnderPressure enforces the in-flight limit always, and the tokens
	// only under pressure: at a load of at least PressureLoad, at a fraction
	// below 1, or after SetPressure(true). In between, tokens are observed, so
	// that enforcement does not start from a full bucket.
	EnforceUnderPressure
	// Off admits everything and counts nothing.
	Off
	modes
)

var modeNames = [modes]string{"enforce", "observe", "enforce_under_pressure", "off"}

// String returns the mode in snake case.
func (m Mode) String() string {
	if m < modes {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// Config configures a [Throttler]. The zero Config limits messages in flight
// to 64 and nothing else. All of it can be changed live with
// [Throttler.Reconfigure].
type Config struct {
	// Name appears in errors and statistics. It may be empty.
	Name string

	// Mode says whether decisions are enforced. The zero Mode is Enforce.
	Mode Mode

	// Limit bounds what is in flight, by weight. Zero messages means 64, zero
	// rows or bytes no limit; negative is no limit. With the adaptive limit on,
	// Limit.Messages is where that one is bounded above.
	Limit Cost

	// Rate refills the token buckets, per second. Zero or negative: no bucket.
	Rate Rates

	// Burst is the size of the token buckets. Zero means what the rate gives in
	// 100 ms, at least 1. More than the rate gives in 52 days counts as that.
	Burst Cost

	// RejectOversized rejects a cost above a limit or a burst, which can never
	// fit, with ReasonOversized. By default it runs alone: it is admitted as if
	// it were exactly as large as the limit, once nothing else is in flight, and
	// the tokens beyond the burst are owed, two bursts at most.
	RejectOversized bool

	// MaxWait bounds the wait of one Acquire or Pace. Zero or negative: only
	// the context bounds it.
	MaxWait time.Duration

	// Queue configures the wait.
	Queue QueueConfig

	// Adaptive configures the limit that follows the service time.
	Adaptive AdaptiveConfig

	// MaxKeys is how many tenants (see [WithKey]) are told apart, for fair
	// shares of a hot gate and for KeyRate; further ones share one place. Zero
	// or negative: tenants are not told apart.
	MaxKeys int

	// KeyRate gives each tenant token buckets of its own, beside those of Rate,
	// and KeyBurst is their size, with the defaults of Burst. They need MaxKeys.
	KeyRate  Rates
	KeyBurst Cost

	// KeyRateOf overrides KeyRate and KeyBurst for a tenant. It is called when
	// the tenant is first seen and after Reconfigure, without a lock, perhaps
	// more than once and concurrently. What [New] would not accept as a rate
	// counts as none. Nil: all tenants have KeyRate.
	KeyRateOf func(key string) (Rates, Cost)

	// PressureLoad is the load from which EnforceUnderPressure enforces.
	// Zero means 0.8, negative that load is no pressure.
	PressureLoad float64

	// WatchdogAge is the age from which a held permit counts as overdue in
	// Stats. Zero means a minute, negative no watchdog.
	WatchdogAge time.Duration

	// Seed is where the sequence of shedding decisions starts. Zero means a
	// random start, so that replicas do not shed in step.
	Seed uint64
}

// QueueConfig configures the wait of Acquire. A call whose context has a
// deadline, and which was not made with [WithoutEarlyRejection], is better
// rejected early than served late: it waits for the fraction for a sixteenth of
// the time to its deadline at most, and for room for an eighth, by CoDel
// (Nichols and Jacobson, "Controlling Queue Delay", 2012): for Interval at
// most, and for Target, newest first, once the queue has not been empty for
// Interval. Any other call waits in order of arrival and is dropped for no
// reason but Config.MaxWait. Tokens come at a known time, so a call waits for
// them as long as its deadline allows, or not at all.
type QueueConfig struct {
	// InOrder serves calls with a deadline in order too. They wait for half of
	// the time to it at most. Default off.
	InOrder bool
	// Length is how many calls may wait. A full queue gives up its newest call
	// of the lowest priority for one of a higher priority, and the newest of a
	// tenant above its share of the queue for one below. Zero means 1024,
	// negative that Acquire does not wait.
	Length int
	// Target bounds the wait for room under standing overload. Zero or negative
	// means 5 ms.
	Target time.Duration
	// Interval is how long the queue must not have been empty for overload to
	// count as standing, and bounds the wait until then. Zero or negative
	// means 100 ms.
	Interval time.Duration
	// Passes is how many smaller calls may overtake a large one that does not
	// fit yet. Zero means 8, negative none.
	Passes int
}

func (q QueueConfig) withDefaults() QueueConfig {
	q.Length = cmp.Or(q.Length, 1024)
	if q.Target <= 0 {
		q.Target = 5 * time.Millisecond
	}
	if q.Interval <= 0 {
		q.Interval = 100 * time.Millisecond
	}
	q.Passes = cmp.Or(q.Passes, 8)
	return q
}

func (q QueueConfig) validate(bad func(field string, value any, want string)) {
	if q.Length > maxQueueLength {
		bad("Queue.Length", q.Length, fmt.Sprintf("at most %d", maxQueueLength))
	}
	if q.Target > q.Interval {
		bad("Queue.Target", q.Target, fmt.Sprintf("at most Queue.Interval (%v)", q.Interval))
	}
}

// AdaptiveMode says what may change the message limit.
type AdaptiveMode uint8

// The modes of the adaptive limit. The zero mode is AdaptiveGuard.
const (
	// AdaptiveGuard keeps Config.Limit.Messages, and lowers it only while a good
	// part of the work is released as Dropped: a limit that is far too large
	// serves nobody in time. It learns nothing from service times.
	AdaptiveGuard AdaptiveMode = iota
	// AdaptiveOn learns the limit from service times and from dropped work.
	AdaptiveOn
	// AdaptiveOff keeps Config.Limit.Messages whatever happens.
	AdaptiveOff
)

// AdaptiveConfig configures a message limit that follows the service time: the
// time from a permit to its release. It never looks at how long a stream
// lives, so it works on streams that never end.
type AdaptiveConfig struct {
	// Mode says what may change the limit. Zero means AdaptiveGuard.
	Mode AdaptiveMode
	// Min is the smallest limit that service times lead to; dropped work goes
	// below. Zero or negative means 4, or Max if that is less.
	Min int64
	// Max is the largest limit. Zero or negative means Config.Limit.Messages,
	// but 1000 where that is 64, its default, or none.
	Max int64
	// Start is the first limit. Zero or negative means 20, within Min and Max.
	Start int64
	// Window is the shortest time between two changes of the limit. Zero or
	// negative means 100 ms; it may be 10 s at most.
	Window time.Duration
	// Tolerance is by how much queueing may lengthen the service time. Zero
	// means 1.4; it must lie in 1..2, because a tolerance of 2 with the probe
	// that halves the limit has no stable point.
	Tolerance float64
	// MaxHealthy is a service time that is always too long, whatever was
	// learned. Zero or negative: none.
	MaxHealthy time.Duration
}

func (a AdaptiveConfig) withDefaults(limit int64) AdaptiveConfig {
	if a.Max <= 0 {
		a.Max = 1000
		if limit > 0 && limit != defaultMessages {
			a.Max = limit
		}
	}
	if a.Min <= 0 {
		a.Min = min(4, a.Max)
	}
	if a.Start <= 0 {
		a.Start = min(max(20, a.Min), a.Max)
	}
	if a.Window <= 0 {
		a.Window = 100 * time.Millisecond
	}
	a.Tolerance = cmp.Or(a.Tolerance, 1.4)
	return a
}

func (a AdaptiveConfig) validate(bad func(field string, value any, want string)) {
	if a.Mode > AdaptiveOff {
		bad("Adaptive.Mode", a.Mode, "AdaptiveGuard, AdaptiveOn or AdaptiveOff")
	}
	if a.Window > maxWindow {
		bad("Adaptive.Window", a.Window, fmt.Sprintf("at most %v", maxWindow))
	}
	if a.Max > maxAdaptive {
		bad("Adaptive.Max", a.Max, fmt.Sprintf("at most %d", maxAdaptive))
	}
	if a.Min > a.Max {
		bad("Adaptive.Min", a.Min, fmt.Sprintf("at most Adaptive.Max (%d)", a.Max))
	}
	if a.Start < a.Min || a.Start > a.Max {
		bad("Adaptive.Start", a.Start, fmt.Sprintf("within Adaptive.Min..Max (%d..%d)", a.Min, a.Max))
	}
	if !(a.Tolerance >= 1 && a.Tolerance < 2) {
		bad("Adaptive.Tolerance", a.Tolerance, "at least 1 and below 2")
	}
}

// withDefaults returns c with every zero field at its default. It copies
// first, so that a field added later cannot be lost.
func (c Config) withDefaults() Config {
	c.Limit.Messages = cmp.Or(c.Limit.Messages, defaultMessages)
	c.Limit.Rows = cmp.Or(c.Limit.Rows, -1)
	c.Limit.Bytes = cmp.Or(c.Limit.Bytes, -1)
	c.Limit = Cost{max(c.Limit.Messages, -1), max(c.Limit.Rows, -1), max(c.Limit.Bytes, -1)}
	c.Burst = c.Rate.burst(c.Burst)
	c.KeyBurst = c.KeyRate.burst(c.KeyBurst)
	c.Queue = c.Queue.withDefaults()
	c.Adaptive = c.Adaptive.withDefaults(c.Limit.Messages)
	c.PressureLoad = cmp.Or(c.PressureLoad, 0.8)
	c.WatchdogAge = cmp.Or(c.WatchdogAge, time.Minute)
	return c
}

// burst returns b with its zero weights at their default.
func (r Rates) burst(b Cost) Cost {
	b.Messages = cmp.Or(b.Messages, defaultBurst(r.Messages))
	b.Rows = cmp.Or(b.Rows, defaultBurst(r.Rows))
	b.Bytes = cmp.Or(b.Bytes, defaultBurst(r.Bytes))
	return b
}

func defaultBurst(r Rate) int64 {
	if r <= 0 {
		return 0
	}
	return max(1, int64(min(float64(r)/10, 1<<53)))
}

// Limits of what a Config accepts. maxRate keeps a token's price above the
// resolution of bucket time, and minRate keeps it below twelve days.
const (
	maxRate         = 1e15
	minRate         = 1e-6
	maxKeysLimit    = 1 << 16
	maxQueueLength  = 1 << 20
	maxWindow       = 10 * time.Second
	maxAdaptive     = 1 << 40 // far below where a float64 skips whole numbers
	defaultMessages = 64
)

var fieldNames = [weights]string{"Messages", "Rows", "Bytes"}

// validate joins everything that is wrong with c, which has its defaults.
func (c Config) validate() error {
	var errs []error
	bad := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("flowcontrol: Config.%s is %v, want %s", field, value, want))
	}
	if c.Mode >= modes {
		bad("Mode", c.Mode, "Enforce, Observe, EnforceUnderPressure or Off")
	}
	c.Rate.validate(c.Burst, "Rate.", "Burst.", bad)
	c.KeyRate.validate(c.KeyBurst, "KeyRate.", "KeyBurst.", bad)
	if c.MaxKeys > maxKeysLimit {
		bad("MaxKeys", c.MaxKeys, fmt.Sprintf("at most %d", maxKeysLimit))
	}
	if c.MaxKeys <= 0 && (c.KeyRate.any() || c.KeyRateOf != nil) {
		bad("MaxKeys", c.MaxKeys, "above 0 where KeyRate or KeyRateOf is set")
	}
	if math.IsNaN(c.PressureLoad) || c.PressureLoad > 1 || math.IsInf(c.PressureLoad, 0) {
		bad("PressureLoad", c.PressureLoad, "above 0, at most 1, or negative for off")
	}
	c.Queue.validate(bad)
	c.Adaptive.validate(bad)
	return errors.Join(errs...)
}

func (r Rates) any() bool { return r.Messages > 0 || r.Rows > 0 || r.Bytes > 0 }

func (r Rates) validate(burst Cost, rateField, burstField string, bad func(field string, value any, want string)) {
	for w := range Weight(weights) {
		rate := float64(r.of(w))
		if math.IsNaN(rate) || rate > maxRate || rate > 0 && rate < minRate || math.IsInf(rate, 0) {
			bad(rateField+fieldNames[w], rate, fmt.Sprintf("%g..%g a second, or zero for none", minRate, maxRate))
		}
		if b := burst.Of(w); rate > 0 && b < 1 {
			bad(burstField+fieldNames[w], b, "at least 1, or zero for 100 ms of the rate")
		}
	}
}

// orNone returns r and its burst b as validate would accept them, with what it
// would not at none.
func (r Rates) orNone(b Cost) (Rates, Cost) {
	b = r.burst(b)
	r.validate(b, "", "", func(field string, _ any, _ string) {
		switch field {
		case "Messages":
			r.Messages = 0
		case "Rows":
			r.Rows = 0
		case "Bytes":
			r.Bytes = 0
		}
	})
	return r, b
}
