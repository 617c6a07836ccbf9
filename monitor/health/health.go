package health

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
)

// Config configures a [Health]. A zero field is its documented default.
type Config struct {
	// ServiceID names this process in health documents. Default "sluice".
	ServiceID string
	// Version is this process's version in health documents. Default: none.
	Version string
	// Description of this process in health documents. Default: none.
	Description string
	// Thresholds decide what the report calls a problem.
	Thresholds Thresholds
	// Alerts is an engine of your own that watches the same monitor. Default: a
	// new one with [alert.DefaultRules], which New makes watch it.
	Alerts *alert.Engine
	// Logger receives readiness checks that fail, with their errors, and the
	// alerts of an engine that New makes. Nil: nothing is logged.
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

// withDefaults fills in zero fields. A threshold cannot be 0: it would be exceeded by
// anything.
func (t Thresholds) withDefaults() Thresholds {
	t.Load = cmp.Or(t.Load, 0.80)
	t.ErrorRatio = cmp.Or(t.ErrorRatio, 0.05)
	t.RejectedRatio = cmp.Or(t.RejectedRatio, 0.05)
	t.Latency = cmp.Or(t.Latency, 5*time.Second)
	t.PoolHealth = cmp.Or(t.PoolHealth, 0.5)
	return t
}

func (c *Config) validate() error {
	var problems []error
	share := func(v float64, field string) {
		if !(v > 0 && v <= 1) {
			problems = append(problems, &monitor.Error{
				Field: "Thresholds." + field, Value: strconv.FormatFloat(v, 'g', -1, 64), Want: "above 0 and at most 1",
			})
		}
	}
	t := &c.Thresholds
	share(t.Load, "Load")
	share(t.ErrorRatio, "ErrorRatio")
	share(t.RejectedRatio, "RejectedRatio")
	share(t.PoolHealth, "PoolHealth")
	if t.Latency < 0 {
		problems = append(problems, &monitor.Error{
			Field: "Thresholds.Latency", Value: t.Latency.String(), Want: "above 0",
		})
	}
	return errors.Join(problems...)
}

// Health says how the pipeline that a monitor watches is, to people and to
// machines. Make one with [New].
type Health struct {
	cfg     Config
	monitor *monitor.Monitor
	alerts  *alert.Engine
	scaling *alert.Engine // the triggers of recommendations, evaluated like alerts

	mu     sync.Mutex
	checks []check
}

// New returns the health of what m watches. What needs time, the alerts and the
// triggers for scaling out, is evaluated while m is started.
func New(m *monitor.Monitor, cfg Config) (*Health, error) {
	cfg.ServiceID = cmp.Or(cfg.ServiceID, "sluice")
	cfg.Thresholds = cfg.Thresholds.withDefaults()
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	scaling, err := alert.New(alert.Config{Rules: scalingRules()})
	if err != nil {
		return nil, err
	}
	h := &Health{cfg: cfg, monitor: m, alerts: cfg.Alerts, scaling: scaling}
	m.OnTick(scaling.Evaluate)
	if h.alerts == nil {
		if h.alerts, err = alert.New(alert.Config{Logger: cfg.Logger}); err != nil {
			return nil, err
		}
		h.alerts.Watch(m)
	}
	return h, nil
}

// Alerts returns the engine of the alerts that the report lists.
func (h *Health) Alerts() *alert.Engine { return h.alerts }

// check is one condition of readiness.
type check struct {
	name string
	ask  func(context.Context) error
}

// checkPatience bounds one readiness check.
const checkPatience = 2 * time.Second

// AddCheck adds a condition of readiness: ask returns nil while it holds. It
// gets a context that ends after two seconds. The text of its error goes to the
// log, never to an HTTP client.
func (h *Health) AddCheck(name string, ask func(context.Context) error) {
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == '\n' || r == '\r' || r == '?' {
			return '-'
		}
		return r
	}, name)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks = append(slices.Clip(h.checks), check{name, ask})
}

// checkResult is the outcome of one check.
type checkResult struct {
	name string
	err  error
}

// ask runs the checks that are wanted, one after the other, outside the lock: a
// check may add another one, and takes up to two seconds. A check that ignores its
// context holds up its caller.
func (h *Health) ask(ctx context.Context, wanted func(string) bool) (results []checkResult) {
	h.mu.Lock()
	checks := h.checks
	h.mu.Unlock()
	for _, c := range checks {
		if !wanted(c.name) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkPatience)
		err := c.ask(ctx)
		cancel()
		if err != nil {
			h.cfg.Logger.Warn("readiness check failed", "check", c.name, "error", err)
		}
		results = append(results, checkResult{c.name, err})
	}
	return results
}
