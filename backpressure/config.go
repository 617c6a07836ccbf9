package backpressure

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Defaults of a [Config] that programs show to their users.
const (
	DefaultMaxInFlight = 10_000
	DefaultActivation  = 0.80
	DefaultRecovery    = 0.60
)

// Driver says which load a path's decision follows. Both loads are in every
// [Snapshot], whichever drives.
type Driver uint8

const (
	// WorstStage follows the service with the highest load on the path: a
	// mean hides one saturated sink.
	WorstStage Driver = iota
	// Aggregate follows sum(in flight) / sum(maximum) over the path's services.
	Aggregate
)

// String returns the driver's name in text and metrics.
func (d Driver) String() string {
	switch d {
	case WorstStage:
		return "worst_stage"
	case Aggregate:
		return "aggregate"
	default:
		return fmt.Sprintf("driver(%d)", uint8(d))
	}
}

// MarshalText is String.
func (d Driver) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the reverse of String, for flags and settings.
func (d *Driver) UnmarshalText(text []byte) error {
	for _, known := range []Driver{WorstStage, Aggregate} {
		if string(text) == known.String() {
			*d = known
			return nil
		}
	}
	return fmt.Errorf("driver is %q, want %s or %s", text, WorstStage, Aggregate)
}

// Config configures a [Controller]. A zero field is its default; negative is
// off where "off" is said to exist. Loads and fractions are shares, 1 is full or
// open; a load may exceed 1 where a service took more than its limit.
//
// What most pipelines set is Activation and Recovery. The bounds at the end protect
// a controller whose reports come from other processes.
type Config struct {
	// MaxInFlight is the in-flight limit of the whole pipeline: the sum of all
	// services' in flight over MaxInFlight is one more load that drives every
	// path. Default 10,000, negative: off.
	MaxInFlight int64
	// Activation is the load, 0..1, at which backpressure begins. Default 0.80.
	Activation float64
	// Recovery is the load, 0..1 and below Activation, down to which the load
	// must come before backpressure may end. Default 0.60, or three quarters of
	// Activation where that is lower.
	Recovery float64
	// Driver says which load decides. Default WorstStage. Aggregate is for stages
	// that share one pool of workers, where the fullest alone says little.
	Driver Driver
	// Policy computes the fraction while backpressure is active. Default Gradual{}.
	Policy Policy
	// Floor is the least fraction, above 0 and at most 1: a trickle always passes,
	// so that recovery is learned. At 0 nothing would be in flight, and an idle
	// stage looks the same as a dead one. Default 0.05.
	Floor float64
	// SafeFraction is where a stale signal from outside ends up, 0..1.
	// Default 0.5.
	SafeFraction float64
	// Interval is how often services report at rest. A signal from outside is
	// stale after three of them, and [Gradual] is slower where they are seldom:
	// it cannot steer faster than it sees. Default 1 s.
	Interval time.Duration
	// Tick is how often the controller looks at the clock when no report comes:
	// it releases, expires and decays by itself. Default 250 ms, negative: only
	// reports and [Controller.Tick] move it.
	Tick time.Duration
	// TTL is how long a silent service counts. Until then its last load is taken
	// as it was, because a cut connection must not release a loaded pipeline, and
	// moves the fraction no further. Default 30 s, negative: for ever.
	TTL time.Duration
	// Learn is how long, from the first report on, the controller only listens:
	// the paths then start from the fractions that the reports carried. For a
	// decider that restarts under a running pipeline. Default 0: decide at once.
	Learn time.Duration
	// MaxServices bounds the memory: the next service is rejected as [TooMany].
	// Default 16,384.
	MaxServices int
	// MaxServiceInFlight is the largest in flight or maximum that a report may
	// plausibly carry. Default 10,000,000.
	MaxServiceInFlight int64
	// MaxClockSkew is how far a report's or signal's own time may lie from ours.
	// Default 5 min, negative: any.
	MaxClockSkew time.Duration
	// Logger receives activations, recoveries and expiries. Default: silence.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.MaxInFlight = cmp.Or(c.MaxInFlight, DefaultMaxInFlight)
	c.Activation = cmp.Or(c.Activation, DefaultActivation)
	c.Recovery = cmp.Or(c.Recovery, min(DefaultRecovery, c.Activation*DefaultRecovery/DefaultActivation))
	if c.Policy == nil {
		c.Policy = Gradual{}
	}
	c.Floor = cmp.Or(c.Floor, 0.05)
	c.SafeFraction = cmp.Or(c.SafeFraction, 0.5)
	c.Interval = cmp.Or(c.Interval, time.Second)
	c.Tick = cmp.Or(c.Tick, 250*time.Millisecond)
	c.TTL = cmp.Or(c.TTL, 30*time.Second)
	c.MaxServices = cmp.Or(c.MaxServices, 16_384)
	c.MaxServiceInFlight = cmp.Or(c.MaxServiceInFlight, 10_000_000)
	c.MaxClockSkew = cmp.Or(c.MaxClockSkew, 5*time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var problems []error
	wrong := func(field string, value, want any) {
		problems = append(problems, fmt.Errorf("%s is %v, want %v", field, value, want))
	}
	share := func(name string, v float64) {
		if !(v > 0 && v <= 1) {
			wrong(name, v, "above 0 and at most 1")
		}
	}
	share("Activation", c.Activation)
	share("Recovery", c.Recovery)
	share("Floor", c.Floor)
	share("SafeFraction", c.SafeFraction)
	if !(c.Recovery < c.Activation) {
		wrong("Recovery", c.Recovery, fmt.Sprintf("below Activation (%v)", c.Activation))
	}
	if c.Driver > Aggregate {
		wrong("Driver", c.Driver, "WorstStage or Aggregate")
	}
	if c.Interval <= 0 {
		wrong("Interval", c.Interval, "above 0")
	}
	if c.Learn < 0 {
		wrong("Learn", c.Learn, "0 or more")
	}
	if c.MaxServices < 0 || c.MaxServices > math.MaxInt32 {
		wrong("MaxServices", c.MaxServices, fmt.Sprint("1 to ", math.MaxInt32))
	}
	if c.MaxServiceInFlight < 0 || c.MaxServiceInFlight > math.MaxInt64/math.MaxInt32 {
		wrong("MaxServiceInFlight", c.MaxServiceInFlight, fmt.Sprint("1 to ", int64(math.MaxInt64/math.MaxInt32)))
	}
	if v, ok := c.Policy.(validator); ok {
		if err := v.validate(); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return &Error{Reason: BadConfig, cause: errors.Join(problems...)}
}

// staleAfter is the age from which a signal is stale: three intervals.
func (c Config) staleAfter() time.Duration { return 3 * c.Interval }
