package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

// An Agent speaks for one component to the control plane: it registers, beats,
// reports load, and sets the component's throttlers to the decided fraction. All
// its methods may be called from any goroutine.
//
// Its figures are read while the component works: each method takes a short lock or
// an atomic load, and none waits for the network.
type Agent struct {
	cfg         Config
	incarnation uint64 // of this process, as against another under the same id
	log         *slog.Logger
	conn        grpc.ClientConnInterface
	close       func() error
	local       *backpressure.Controller
	notified    chan struct{} // the component asks for a look at its load
	modeMoved   chan struct{} // wakes the local decision

	mode       atomic.Uint32
	signals    atomic.Uint64
	reconnects [reconnectReasons]atomic.Uint64
	discovery  atomic.Int64

	mu          sync.Mutex // guards what follows; never held across a call of a target
	id          string     // as the control plane assigned it
	signal      backpressure.Signal
	upstreams   []string  // declared, or by event types when the agent decides
	lastContact time.Time // when the control plane was last heard from; zero: never
	applied     float64   // what the targets are set to

	applyMu sync.Mutex // one application at a time, the newest last; held across calls of targets
}

// New returns an agent that does nothing until [Agent.Run]. It does not dial: a
// control plane that is away is no error, now or later. The error joins everything
// that is wrong with cfg; the controller's part of it is an [*backpressure.Error].
func New(cfg Config) (*Agent, error) {
	cfg = cfg.withDefaults()
	cfg.Local.Tick = cmp.Or(cfg.Local.Tick, -1) // the agent's own loop ticks it
	cfg.Local.TTL = cmp.Or(cfg.Local.TTL, -1)   // the agent removes what its control plane no longer lists
	local, err := backpressure.New(cfg.Local)
	if err := errors.Join(cfg.validate(), err); err != nil {
		return nil, fmt.Errorf("agent: bad Config: %w", err)
	}
	a := &Agent{
		cfg:         cfg,
		incarnation: rand.Uint64() | 1, // 0 is none
		log:         cfg.Logger.With("component", cfg.Component.ID),
		conn:        cfg.Conn,
		close:       func() error { return nil },
		local:       local,
		notified:    make(chan struct{}, 1),
		modeMoved:   make(chan struct{}, 1),
		id:          cfg.Component.ID,
		upstreams:   cfg.Component.Upstreams,
		signal:      backpressure.Signal{Fraction: 1},
		applied:     1,
	}
	if a.conn == nil {
		conn, err := grpc.NewClient(cfg.Endpoint, cfg.dialOptions()...)
		if err != nil {
			return nil, fmt.Errorf("agent: bad Config: Endpoint %q: %w", cfg.Endpoint, err)
		}
		a.conn, a.close = conn, conn.Close
	}
	return a, nil
}

// Run keeps the component registered and its targets at the decided fraction
// until ctx ends; then it unregisters, which takes two seconds at most, and returns
// nil when all of the agent's goroutines have ended. It is called once. The targets
// stay at their last fraction: a component that goes on without an agent sets them
// itself.
//
// While no control plane answers, Run tries again for ever. A first pause of
// MinBackoff doubles up to MaxBackoff and varies from half to one and a half times
// itself, so that a thousand agents do not come back in one instant. It starts small
// again after a connection that held for longer than MaxBackoff.
//
// When another process registers under the same id, as in a rolling update, that
// one speaks for the component from then on. This agent stays Alone until ctx
// ends, and leaves the registration as it is.
func (a *Agent) Run(ctx context.Context) error {
	defer a.close()
	defer a.local.Close()
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { a.runLocal(ctx) })

	pause := a.cfg.MinBackoff
	for {
		began := time.Now()
		err := a.serveOnce(ctx)
		if a.Mode() != backpressure.Alone {
			a.touch() // the control plane was there until now, so its signal ages from here
		}
		a.setMode(backpressure.Alone)
		if ctx.Err() != nil {
			a.leave(ctx)
			return nil
		}
		reason := reconnectReason(err)
		a.reconnects[reason].Add(1)
		if reason == reconnectReplaced {
			a.log.Warn("replaced by another process under this id, which speaks for the component from now on")
			<-ctx.Done()
			return nil
		}
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
// component that knows when its load has jumped. It never blocks; calls that come
// faster than the agent looks are one. A look sends nothing unless the load has moved
// by the control plane's step.
func (a *Agent) Notify() {
	select {
	case a.notified <- struct{}{}:
	default:
	}
}

// Fraction returns the fraction that the targets are set to, or are being set to; 1
// before Run.
func (a *Agent) Fraction() float64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.applied
}

// Mode says what decides the component's fraction now. It is [backpressure.Alone]
// until the control plane has sent its first signal: connected is not yet decided.
func (a *Agent) Mode() backpressure.AgentMode { return backpressure.AgentMode(a.mode.Load()) }

// setMode also wakes the local decision, which sleeps while a control plane decides.
func (a *Agent) setMode(mode backpressure.AgentMode) {
	a.mode.Store(uint32(mode))
	select {
	case a.modeMoved <- struct{}{}:
	default:
	}
}

// Signal returns the last signal of the control plane, however old; Stats has its age.
// Before the first it is an open one.
func (a *Agent) Signal() backpressure.Signal {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.signal
}

// Local returns the agent's own decision, which counts while no control plane
// decides: to watch it, or to change its thresholds live. Do not close it, and do not
// report to it: the agent does both.
func (a *Agent) Local() *backpressure.Controller { return a.local }

// Stats returns a snapshot of the agent's state.
func (a *Agent) Stats() backpressure.AgentStats {
	stats := backpressure.AgentStats{
		Mode:       a.Mode(),
		Fraction:   a.Fraction(),
		Signals:    a.signals.Load(),
		Reconnects: make(map[string]uint64, reconnectReasons),
		Discovery:  time.Duration(a.discovery.Load()),
	}
	for i, name := range reconnectNames {
		stats.Reconnects[name] = a.reconnects[i].Load()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.lastContact.IsZero() {
		stats.SignalAge = time.Since(a.lastContact)
	}
	return stats
}

// report is the component's report, with its identity filled in. It carries the
// fraction in force: a control plane that has just started has no other way to know.
func (a *Agent) report() backpressure.Report {
	r := a.cfg.Report()
	a.mu.Lock()
	r.ServiceID, r.Upstreams = a.id, a.upstreams
	a.mu.Unlock()
	r.Kind = a.cfg.Component.Kind
	r.Fraction = a.Fraction()
	if r.MaxInFlight == 0 {
		r.MaxInFlight = a.cfg.Component.MaxInFlight
	}
	return r
}

func (a *Agent) setUpstreams(ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.upstreams = ids
}

func (a *Agent) serviceID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.id
}

// touch notes a sign of life of the control plane.
func (a *Agent) touch() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastContact = time.Now()
}

// follow takes the control plane's decision.
func (a *Agent) follow(signal backpressure.Signal) {
	a.mu.Lock()
	changed := a.signal.Active != signal.Active
	a.signal = signal
	a.lastContact = time.Now()
	a.mu.Unlock()
	a.signals.Add(1)
	if changed {
		a.log.Info("backpressure", "active", signal.Active, "fraction", signal.Fraction,
			"load", signal.Load, "cause", signal.ServiceID, "reason", signal.Reason)
	}
	a.apply()
}

// apply sets the targets to what counts now, if that has changed. What counts is read
// under applyMu, so that of two goroutines the later one has the newer. No exported
// method takes that lock: a target may call any.
func (a *Agent) apply() {
	a.applyMu.Lock()
	defer a.applyMu.Unlock()
	fraction := a.wanted(time.Now())
	a.mu.Lock()
	changed := a.applied != fraction
	a.applied = fraction
	a.mu.Unlock()
	if !changed {
		return
	}
	for _, target := range a.cfg.Targets {
		target.SetFraction(fraction)
	}
}

// wanted is the fraction that counts now. While a control plane decides it is
// the signalled one. Otherwise a throttled component moves from its last to its
// safe fraction, so that it never freezes at a stale one, and its own load may
// ask for less; an open one stays open as long as its own load allows.
func (a *Agent) wanted(now time.Time) float64 {
	switch a.Mode() {
	case backpressure.Coordinated:
		return a.Signal().Fraction
	case backpressure.Polling:
		return a.local.FractionFor(a.serviceID())
	}
	a.mu.Lock()
	last, contact := a.signal.Fraction, a.lastContact
	a.mu.Unlock()
	cfg := a.local.Config()
	aged := backpressure.Aged(last, max(last, cfg.SafeFraction), now.Sub(contact), 3*cfg.Interval)
	return min(aged, a.local.FractionFor(a.serviceID()))
}

// runLocal feeds the local decision and lets a silent control plane's signal
// age. It sleeps while a control plane decides, and forgets what it knew: an outage
// ten calm minutes after the last one must not begin with the load of then.
func (a *Agent) runLocal(ctx context.Context) {
	ticker := time.NewTicker(controlplane.DefaultReportInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-a.modeMoved:
			if a.Mode() == backpressure.Coordinated {
				ticker.Stop()
				a.local.RemoveService(a.serviceID()) // its next decision starts afresh
			} else {
				ticker.Reset(controlplane.DefaultReportInterval)
			}
			continue
		}
		if a.Mode() == backpressure.Coordinated {
			continue // the ticker fired before it was stopped
		}
		if err := a.local.Report(a.report()); err != nil {
			a.log.Warn("own report rejected", "error", err)
		}
		a.local.Tick()
		a.apply()
	}
}
