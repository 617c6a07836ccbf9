package monitor

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"
)

// The defaults of a Config.
const (
	defaultInterval    = 5 * time.Second
	defaultHistory     = 10 * time.Minute
	defaultFreshness   = 250 * time.Millisecond
	defaultMaxServices = 1000
	defaultMaxPools    = 200
	defaultMaxEdges    = 1500
)

// envInterval names the environment variable that [ConfigFromEnv] reads.
const envInterval = "MONITORING_INTERVAL"

// Scope says which services' figures a process exports as metrics. The report
// and the in-process alerts always look at all of them.
type Scope uint8

const (
	// AllServices exports every service that is known, for a process that is
	// the only one to be scraped.
	AllServices Scope = iota
	// LocalServices exports only the services that this process runs, and for
	// the others heartbeat age, health and info: for a control plane whose
	// components are scraped themselves.
	LocalServices
)

// Config configures a Monitor. A zero field is its documented default;
// negative is off where "off" is said to exist.
type Config struct {
	// Interval is how often a started monitor looks: it keeps the history
	// and calls what follows it, see [Monitor.OnTick]. At least 10 ms, default 5 s.
	Interval time.Duration
	// History is how far back the history goes. Default 10 min, negative: none.
	History time.Duration
	// Freshness is how old a snapshot may be when it is served once more, so
	// that what is asked for together gets the same numbers. Default 250 ms,
	// negative: every call builds one.
	Freshness time.Duration

	// MaxServices, MaxPools and MaxEdges bound the series: what is beyond is
	// folded into [Other]. Defaults 1000, 200 and 1500. OpenTelemetry's SDK folds
	// by itself from 2000 label sets an instrument on.
	MaxServices, MaxPools, MaxEdges int
	// Scope says which services are exported as metrics. Default AllServices.
	Scope Scope
	// NoLegacy leaves the deprecated flowctl_pipeline_throughput_total out.
	NoLegacy bool

	// TraceID returns the trace that a context belongs to, or "": it makes
	// exemplars of what is observed under that context. With OpenTelemetry:
	// trace.SpanContextFromContext(ctx).TraceID().String(). Default: none.
	TraceID func(context.Context) string
}

// ConfigFromEnv returns the configuration that the environment asks for:
// MONITORING_INTERVAL is a duration ("5s") of at least 100 ms. getenv is
// os.Getenv or the like. A malformed value is an [Error] that names the variable.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	text := getenv(envInterval)
	if text == "" {
		return Config{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 100*time.Millisecond {
		return Config{}, &Error{Field: envInterval, Value: text, Want: "a duration of at least 100ms, such as 5s"}
	}
	return Config{Interval: d}, nil
}

func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	c.History = cmp.Or(c.History, defaultHistory)
	c.Freshness = cmp.Or(c.Freshness, defaultFreshness)
	c.MaxServices = cmp.Or(c.MaxServices, defaultMaxServices)
	c.MaxPools = cmp.Or(c.MaxPools, defaultMaxPools)
	c.MaxEdges = cmp.Or(c.MaxEdges, defaultMaxEdges)
	return c
}

// validate joins all problems of a configuration with its defaults filled in.
func (c Config) validate() error {
	var problems []error
	want := func(ok bool, field, value, wanted string) {
		if !ok {
			problems = append(problems, &Error{Field: field, Value: value, Want: wanted})
		}
	}
	count := func(n int, field string) {
		want(n >= 1 && n < 2000, field, strconv.Itoa(n), "1 to 1999")
	}
	want(c.Interval >= 10*time.Millisecond, "Interval", c.Interval.String(), "at least 10ms")
	want(c.History < 0 || c.History >= c.Interval, "History", c.History.String(),
		"at least Interval, or negative for none")
	want(c.Scope <= LocalServices, "Scope", strconv.Itoa(int(c.Scope)), "AllServices or LocalServices")
	count(c.MaxServices, "MaxServices")
	count(c.MaxPools, "MaxPools")
	count(c.MaxEdges, "MaxEdges")
	return errors.Join(problems...)
}
