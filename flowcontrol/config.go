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
	// Enforce refuses, or makes wait, what does not fit.
	Enforce Mode = iota
	// Observe admits everything, keeps every count, and counts by reason what
	// Enforce would have refused or delayed.
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

// Oversized says what happens to a cost that is larger than a limit or burst,
// and so can never fit.
type Oversized uint8

const (
	// RunAlone admits it as if it were exactly as large as the limit, so it
	// waits until nothing else is in flight; tokens beyond the burst are owed.
	RunAlone Oversized = iota
	// RefuseOversized refuses it with ReasonOversized, at once and for good.
	RefuseOversized
)

// Defaults of [Config].
const (
	DefaultMessages      = 64
	DefaultQueueLength   = 1024
	DefaultQueueTarget   = 5 * time.Millisecond
	DefaultQueueInterval = 100 * time.Millisecond
	DefaultQueuePasses   = 8
	DefaultPressureLoad  = 0.8
	DefaultWatchdogAge   = time.Minute
)

// Config configures a [Throttler]. The zero Config limits messages in flight
// to [DefaultMessages] and nothing else. All of it can be changed live with
// [Throttler.Reconfigure].
type Config struct {
	// Name appears in errors and statistics. It may be empty.
	Name string

	// Mode says whether decisions are enforced. The zero Mode is Enforce.
	Mode Mode

	// Limit bounds what is in flight, by weight. Zero messages means
	// DefaultMessages, zero rows or bytes no limit; negative is no limit. With
	// the adaptive limit on, Limit.Messages is where that one is bounded above.
	Limit Cost

	// Rate refills the token buckets, per second. Zero or negative: no bucket.
	Rate Rates

	// Burst is the size of the token buckets. Zero means what the rate gives in
	// 100 ms, at least 1.
	Burst Cost

	// Oversized says what happens to a cost above a limit or a burst. The zero
	// value is RunAlone.
	Oversized Oversized

	// MaxWait bounds the wait of one Acquire or Pace. Zero or negative: only
	// the context bounds it.
	MaxWait time.Duration

	// Queue configures the wait for room in flight.
	Queue QueueConfig

	// Adaptive configures the limit that follows the service time.
	Adaptive AdaptiveConfig

	// MaxKeys is how many tenants (see [WithKey]) are told apart for fair
	// shares of a hot gate; further ones share one place. Zero or negative: no
	// fair shares.
	MaxKeys int

	// PressureLoad is the load from which EnforceUnderPressure enforces.
	// Zero means DefaultPressureLoad, negative that load is no pressure.
	PressureLoad float64

	// WatchdogAge is the age from which a held permit counts as overdue in
	// Stats. Zero means DefaultWatchdogAge, negative no watchdog.
	WatchdogAge time.Duration

	// Seed is where the sequence of shedding decisions starts. Zero means a
	// random start, so that replicas do not shed in step.
	Seed uint64
}

// withDefaults returns c with every zero field at its default. It copies
// first, so that a field added later cannot be lost.
func (c Config) withDefaults() Config {
	c.Limit.Messages = cmp.Or(c.Limit.Messages, DefaultMessages)
	c.Limit.Rows = cmp.Or(c.Limit.Rows, -1)
	c.Limit.Bytes = cmp.Or(c.Limit.Bytes, -1)
	c.Limit = Cost{max(c.Limit.Messages, -1), max(c.Limit.Rows, -1), max(c.Limit.Bytes, -1)}
	c.Burst.Messages = cmp.Or(c.Burst.Messages, defaultBurst(c.Rate.Messages))
	c.Burst.Rows = cmp.Or(c.Burst.Rows, defaultBurst(c.Rate.Rows))
	c.Burst.Bytes = cmp.Or(c.Burst.Bytes, defaultBurst(c.Rate.Bytes))
	c.Queue = c.Queue.withDefaults()
	c.Adaptive = c.Adaptive.withDefaults(c.Limit.Messages)
	c.PressureLoad = cmp.Or(c.PressureLoad, DefaultPressureLoad)
	c.WatchdogAge = cmp.Or(c.WatchdogAge, DefaultWatchdogAge)
	return c
}

func defaultBurst(r Rate) int64 {
	if r <= 0 {
		return 0
	}
	return max(1, int64(min(float64(r)/10, 1<<53)))
}

// maxRate keeps a token's price above the resolution of bucket time, and
// minRate keeps it below four years.
const (
	maxRate = 1e15
	minRate = 1e-6
)

// validate joins everything that is wrong with c, which has its defaults.
func (c Config) validate() error {
	var errs []error
	bad := func(field string, value any, want string) {
		errs = append(errs, fmt.Errorf("flowcontrol: Config.%s is %v, want %s", field, value, want))
	}
	if c.Mode >= modes {
		bad("Mode", c.Mode, "Enforce, Observe, EnforceUnderPressure or Off")
	}
	if c.Limit.Messages > MaxMessages {
		bad("Limit.Messages", c.Limit.Messages, fmt.Sprintf("at most %d, or negative for no limit", MaxMessages))
	}
	for w := range Weight(weights) {
		if r := float64(c.Rate.of(w)); math.IsNaN(r) || r > maxRate || r > 0 && r < minRate || math.IsInf(r, 0) {
			bad("Rate."+fieldNames[w], r, fmt.Sprintf("%g..%g a second, or zero for none", minRate, maxRate))
		}
		if b := c.Burst.Of(w); c.Rate.of(w) > 0 && b < 1 {
			bad("Burst."+fieldNames[w], b, "at least 1, or zero for 100 ms of the rate")
		}
	}
	if c.Oversized > RefuseOversized {
		bad("Oversized", c.Oversized, "RunAlone or RefuseOversized")
	}
	if c.MaxKeys > maxKeysLimit {
		bad("MaxKeys", c.MaxKeys, fmt.Sprintf("at most %d", maxKeysLimit))
	}
	if math.IsNaN(c.PressureLoad) || c.PressureLoad > 1 || math.IsInf(c.PressureLoad, 0) {
		bad("PressureLoad", c.PressureLoad, "above 0, at most 1, or negative for off")
	}
	c.Queue.validate(bad)
	c.Adaptive.validate(bad)
	return errors.Join(errs...)
}

var fieldNames = [weights]string{"Messages", "Rows", "Bytes"}

const maxKeysLimit = 1 << 16
