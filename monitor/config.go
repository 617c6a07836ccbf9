package monitor

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"
)

// The defaults of a Config.
const (
	DefaultInterval    = 5 * time.Second
	DefaultHistory     = 10 * time.Minute
	DefaultFreshness   = 250 * time.Millisecond
	DefaultMaxServices = 1000
	DefaultMaxPools    = 200
	DefaultMaxEdges    = 1500
	DefaultRunbook     = "https://github.com/withobsrvr/sluice/blob/main/docs/runbook.md"
)

// EnvInterval names the environment variable that [ConfigFromEnv] reads.
const EnvInterval = "MONITORING_INTERVAL"

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
	// ServiceID names this process in health documents. Default "sluice".
	ServiceID string
	// Version is this process's version in health documents. Default: none.
	Version string
	// Description of this process in health documents. Default: none.
	Description string

	// Interval is how often a started monitor looks: it keeps the history,
	// evaluates the alerts and drives the health service. Default 5 s.
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

	// Rules are the alert rules. Nil: [DefaultRules]. Empty: none.
	Rules []Rule
	// Thresholds of the health report. Zero fields are their defaults.
	Thresholds Thresholds

	// TraceID returns the trace that a context belongs to, or "": it makes
	// exemplars of what is observed under that context. With OpenTelemetry:
	// trace.SpanContextFromContext(ctx).TraceID().String(). Default: none.
	TraceID func(context.Context) string
	// Logger hears of alerts that fire and resolve. Default: silence.
	Logger *slog.Logger
}

// Thresholds decide what the health report calls a problem. They are the
// handbook's: see docs/monitoring.md.
type Thresholds struct {
	// Load of a service, 0..1. Default 0.80.
	Load float64
	// ErrorRatio of a service, 0..1. Default 0.05.
	ErrorRatio float64
	// RejectedRatio is the share of what a service was asked for that it may
	// reject, 0..1. Default 0.05.
	RejectedRatio float64
	// Latency from end to end. Default 5 s.
	Latency time.Duration
	// PoolHealth is the least share of working connections, 0..1. Default 0.5.
	PoolHealth float64
}

// ConfigFromEnv returns the configuration that the environment asks for:
// MONITORING_INTERVAL is a duration ("5s") of at least 100 ms. getenv is
// os.Getenv or the like. A malformed value is an [Error] that names the variable.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	text := getenv(EnvInterval)
	if text == "" {
		return Config{}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 100*time.Millisecond {
		return Config{}, &Error{Field: EnvInterval, Value: text, Want: "a duration of at least 100ms, such as 5s"}
	}
	return Config{Interval: d}, nil
}

func (c Config) withDefaults() Config {
	c.ServiceID = cmp.Or(c.ServiceID, "sluice")
	c.Interval = cmp.Or(c.Interval, DefaultInterval)
	c.History = cmp.Or(c.History, DefaultHistory)
	c.Freshness = cmp.Or(c.Freshness, DefaultFreshness)
	c.MaxServices = cmp.Or(c.MaxServices, DefaultMaxServices)
	c.MaxPools = cmp.Or(c.MaxPools, DefaultMaxPools)
	c.MaxEdges = cmp.Or(c.MaxEdges, DefaultMaxEdges)
	c.Thresholds = c.Thresholds.withDefaults()
	if c.Rules == nil {
		c.Rules = DefaultRules()
	}
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	return c
}

func (t Thresholds) withDefaults() Thresholds {
	t.Load = cmp.Or(t.Load, 0.80)
	t.ErrorRatio = cmp.Or(t.ErrorRatio, 0.05)
	t.RejectedRatio = cmp.Or(t.RejectedRatio, 0.05)
	t.Latency = cmp.Or(t.Latency, 5*time.Second)
	t.PoolHealth = cmp.Or(t.PoolHealth, 0.5)
	return t
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
	share := func(v float64, field string) {
		want(v > 0 && v <= 1, field, strconv.FormatFloat(v, 'g', -1, 64), "above 0 and at most 1")
	}
	want(c.Interval >= 10*time.Millisecond, "Interval", c.Interval.String(), "at least 10ms")
	want(c.History < 0 || c.History >= c.Interval, "History", c.History.String(), "at least Interval, or negative for none")
	want(c.Scope <= LocalServices, "Scope", strconv.Itoa(int(c.Scope)), "AllServices or LocalServices")
	want(c.Thresholds.Latency > 0, "Thresholds.Latency", c.Thresholds.Latency.String(), "above 0")
	count(c.MaxServices, "MaxServices")
	count(c.MaxPools, "MaxPools")
	count(c.MaxEdges, "MaxEdges")
	share(c.Thresholds.Load, "Thresholds.Load")
	share(c.Thresholds.ErrorRatio, "Thresholds.ErrorRatio")
	share(c.Thresholds.RejectedRatio, "Thresholds.RejectedRatio")
	share(c.Thresholds.PoolHealth, "Thresholds.PoolHealth")
	problems = append(problems, validateRules(c.Rules)...)
	return errors.Join(problems...)
}
