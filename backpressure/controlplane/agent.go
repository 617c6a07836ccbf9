package controlplane

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/backpressure"
)

// The defaults of an [AgentConfig].
const (
	DefaultHeartbeatInterval = 10 * time.Second
	DefaultCallTimeout       = 5 * time.Second
	DefaultMinBackoff        = 200 * time.Millisecond
	DefaultMaxBackoff        = 10 * time.Second
)

// AgentConfig configures an [Agent]. A zero field is its default.
type AgentConfig struct {
	// Endpoint is the control plane's gRPC endpoint, host:port. Required, unless
	// Conn is given.
	Endpoint string
	// Conn is used instead of dialling Endpoint; the agent does not close it.
	Conn grpc.ClientConnInterface
	// TLS, if not nil, secures the connection; with Certificates in it, mutually.
	// Default: plaintext.
	TLS *tls.Config
	// Token, if set, is sent as bearer token with every call. Without TLS it
	// travels in the clear: fit for loopback alone.
	Token string
	// DialOptions are added to those that follow from TLS and Token.
	DialOptions []grpc.DialOption

	// Component is who registers. Its ID is required.
	Component Component
	// Report returns the component's load now: a few atomic reads, called every
	// 100 ms. Its ServiceID, Role and Upstreams need not be set. Required.
	Report func() backpressure.Report
	// Metrics returns further metrics for the heartbeats, by the keys of the
	// Metric constants or own ones. Nil: none.
	Metrics func() map[string]float64
	// Edges returns the connections that the component has seen itself use. Nil:
	// none.
	Edges func() []Edge
	// Targets are told the fraction at every change.
	Targets []backpressure.FractionSetter

	// HeartbeatInterval is how often the control plane hears of an idle
	// component. Default 10 s.
	HeartbeatInterval time.Duration
	// Local configures the decision that the agent makes by itself while no
	// control plane decides: thresholds above all.
	Local backpressure.Config
	// CallTimeout bounds one call to the control plane. Default 5 s.
	CallTimeout time.Duration
	// MinBackoff and MaxBackoff bound the pause between attempts to reach the
	// control plane; it doubles and is jittered. Default 200 ms and 10 s.
	MinBackoff, MaxBackoff time.Duration
	// Logger hears of connections and transitions. Default: silence.
	Logger *slog.Logger
}

func (c AgentConfig) withDefaults() AgentConfig {
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, DefaultHeartbeatInterval)
	c.CallTimeout = cmp.Or(c.CallTimeout, DefaultCallTimeout)
	c.MinBackoff = cmp.Or(c.MinBackoff, DefaultMinBackoff)
	c.MaxBackoff = cmp.Or(c.MaxBackoff, max(DefaultMaxBackoff, c.MinBackoff))
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c AgentConfig) validate() error {
	var problems []error
	if c.Endpoint == "" && c.Conn == nil {
		problems = append(problems, errors.New("Endpoint is empty, want host:port"))
	}
	if err := backpressure.CheckID(c.Component.ID); err != nil {
		problems = append(problems, fmt.Errorf("Component.ID: %w", err))
	}
	if c.Report == nil {
		problems = append(problems, errors.New("Report is nil, want the component's load"))
	}
	for _, d := range [...]struct {
		name string
		v    time.Duration
	}{
		{"HeartbeatInterval", c.HeartbeatInterval},
		{"CallTimeout", c.CallTimeout},
		{"MinBackoff", c.MinBackoff},
		{"MaxBackoff", c.MaxBackoff},
	} {
		if d.v <= 0 {
			problems = append(problems, fmt.Errorf("%s is %v, want above 0", d.name, d.v))
		}
	}
	if c.MaxBackoff < c.MinBackoff {
		problems = append(problems, fmt.Errorf("MaxBackoff is %v, want MinBackoff (%v) or more", c.MaxBackoff, c.MinBackoff))
	}
	return errors.Join(problems...)
}

func (c AgentConfig) dialOptions() []grpc.DialOption {
	secure := insecure.NewCredentials()
	if c.TLS != nil {
		secure = credentials.NewTLS(c.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(secure),
		grpc.WithReadBufferSize(4 << 10),
		grpc.WithWriteBufferSize(4 << 10),
		grpc.WithStaticConnWindowSize(window),
		grpc.WithStaticStreamWindowSize(window),
	}
	if c.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{token: c.Token, secure: c.TLS != nil}))
	}
	return append(options, c.DialOptions...)
}

// Mode says who decides the component's fraction.
type Mode uint8

const (
	// Alone: no control plane answers. The component goes on at its last
	// fraction, then at its safe one, and never above what its own load allows.
	Alone Mode = iota
	// Coordinated: a Sluice control plane decides.
	Coordinated
	// Polling: a control plane with the stock flowctl services alone answers;
	// the agent reads the other components' metrics from it and decides.
	Polling
)

// String returns the mode in lower case.
func (m Mode) String() string {
	switch m {
	case Alone:
		return "alone"
	case Coordinated:
		return "coordinated"
	case Polling:
		return "polling"
	default:
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
}

// An Agent speaks for one component to the control plane: it registers, beats,
// reports load, and follows the decision into the component's throttlers. The
// component works with or without a control plane. All its methods may be
// called from any goroutine.
type Agent struct {
	cfg   AgentConfig
	log   *slog.Logger
	conn  grpc.ClientConnInterface
	close func() error
	local *backpressure.Controller
	nudge chan struct{}
	alone chan struct{} // the control plane has just been lost

	mode       atomic.Uint32
	signals    atomic.Uint64
	reconnects [reconnectReasons]atomic.Uint64
	discovery  atomic.Int64

	mu     sync.Mutex // guards what follows; never held across a call of a target
	id     string     // as the control plane assigned it
	signal backpressure.Signal
	heard  time.Time // when the last sign of the control plane came

	applyMu sync.Mutex // one application at a time, the newest last
	applied float64    // guarded by applyMu
}

// NewAgent returns an agent that does nothing until [Agent.Run].
func NewAgent(cfg AgentConfig) (*Agent, error) {
	cfg = cfg.withDefaults()
	cfg.Local.Tick = cmp.Or(cfg.Local.Tick, -1) // the agent's own loop ticks it
	local, err := backpressure.New(cfg.Local)
	if err := errors.Join(cfg.validate(), err); err != nil {
		return nil, fmt.Errorf("controlplane: bad AgentConfig: %w", err)
	}
	a := &Agent{
		cfg:     cfg,
		log:     cfg.Logger.With("component", cfg.Component.ID),
		conn:    cfg.Conn,
		close:   func() error { return nil },
		local:   local,
		nudge:   make(chan struct{}, 1),
		alone:   make(chan struct{}, 1),
		id:      cfg.Component.ID,
		signal:  backpressure.Signal{Fraction: 1},
		applied: 1,
	}
	if a.conn == nil {
		conn, err := grpc.NewClient(cfg.Endpoint, cfg.dialOptions()...)
		if err != nil {
			return nil, fmt.Errorf("controlplane: bad AgentConfig: Endpoint %q: %w", cfg.Endpoint, err)
		}
		a.conn, a.close = conn, conn.Close
	}
	return a, nil
}

// Run keeps the component registered and its targets at the decided fraction
// until ctx ends; then it unregisters, and returns nil. It is called once.
func (a *Agent) Run(ctx context.Context) error {
	defer a.close()
	defer a.local.Close()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { a.keep(ctx) })

	pause := a.cfg.MinBackoff
	for {
		began := time.Now()
		err := a.attend(ctx)
		if a.Mode() != Alone {
			a.hear() // an open stream is a sign of life, so the signal ages from here
		}
		a.mode.Store(uint32(Alone))
		select {
		case a.alone <- struct{}{}:
		default:
		}
		if ctx.Err() != nil {
			a.leave(ctx)
			return nil
		}
		a.reconnects[reconnectReason(err)].Add(1)
		if time.Since(began) > a.cfg.MaxBackoff {
			pause = a.cfg.MinBackoff
		}
		jittered := pause/2 + rand.N(pause)
		a.log.Warn("control plane lost", "error", err, "retry_in", jittered)
		select {
		case <-ctx.Done():
		case <-time.After(jittered):
		}
		pause = min(2*pause, a.cfg.MaxBackoff)
	}
}

// Notify asks the agent to look at the load now and not within 100 ms, for a
// component that knows when its load has jumped. It never blocks.
func (a *Agent) Notify() {
	select {
	case a.nudge <- struct{}{}:
	default:
	}
}

// Fraction returns the fraction that the targets have been told.
func (a *Agent) Fraction() float64 {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	return a.applied
}

// Mode says who decides now.
func (a *Agent) Mode() Mode { return Mode(a.mode.Load()) }

// Signal returns the last signal of the control plane.
func (a *Agent) Signal() backpressure.Signal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signal
}

// Local returns the agent's own decision, which counts while no control plane
// decides.
func (a *Agent) Local() *backpressure.Controller { return a.local }

// report is the component's report, with its identity filled in.
func (a *Agent) report() backpressure.Report {
	r := a.cfg.Report()
	r.ServiceID = a.serviceID()
	r.Role = a.cfg.Component.Role
	r.Upstreams = a.cfg.Component.Upstreams
	r.Fraction = a.Fraction()
	if r.MaxInFlight == 0 {
		r.MaxInFlight = a.cfg.Component.MaxInFlight
	}
	return r
}

func (a *Agent) serviceID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.id
}

// hear notes a sign of life of the control plane.
func (a *Agent) hear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = time.Now()
}

// follow takes the control plane's decision.
func (a *Agent) follow(signal backpressure.Signal) {
	a.mu.Lock()
	changed := a.signal.Active != signal.Active
	a.signal = signal
	a.heard = time.Now()
	a.mu.Unlock()
	a.signals.Add(1)
	if changed {
		a.log.Info("backpressure", "active", signal.Active, "fraction", signal.Fraction, "load", signal.Load, "cause", signal.ServiceID, "reason", signal.Reason)
	}
	a.apply()
}

// apply tells the targets what counts now, if that has changed.
func (a *Agent) apply() {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	fraction := a.wanted(time.Now())
	if fraction == a.applied {
		return
	}
	a.applied = fraction
	for _, target := range a.cfg.Targets {
		target.SetFraction(fraction)
	}
}

// wanted is the fraction that counts now. While a control plane decides it is
// the signalled one. Without, a throttled component moves from its last to its
// safe fraction, so that it never freezes at a stale one, and its own load may
// ask for less; an open one stays open as long as its own load allows.
func (a *Agent) wanted(now time.Time) float64 {
	switch a.Mode() {
	case Coordinated:
		return a.Signal().Fraction
	case Polling:
		return a.local.FractionFor(a.serviceID())
	}
	a.mu.Lock()
	last, heard := a.signal.Fraction, a.heard
	a.mu.Unlock()
	cfg := a.local.Config()
	aged := backpressure.Aged(last, max(last, cfg.SafeFraction), now.Sub(heard), 3*cfg.Interval)
	return min(aged, a.local.FractionFor(a.serviceID()))
}

// keep feeds the local decision and lets a silent control plane's signal age. It
// sleeps while a control plane decides.
func (a *Agent) keep(ctx context.Context) {
	ticker := time.NewTicker(a.tick())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if a.Mode() == Coordinated {
			ticker.Stop()
			select {
			case <-ctx.Done():
				return
			case <-a.alone:
			}
			ticker.Reset(a.tick())
		}
		if err := a.local.Report(a.report()); err != nil {
			a.log.Warn("own report refused", "error", err)
		}
		a.local.Tick()
		a.apply()
	}
}

func (a *Agent) tick() time.Duration { return DefaultReportInterval }
