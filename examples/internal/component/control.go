package component

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/internal/rate"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/topology"
)

var kinds = map[Role]topology.Kind{
	RoleSource:    topology.KindSource,
	RoleProcessor: topology.KindProcessor,
	RoleSink:      topology.KindSink,
}

// startAgent registers with the control plane and follows its decision, when
// the configuration says so. done waits until it has unregistered.
func (c *Component) startAgent(ctx context.Context, s Service, running *sync.WaitGroup) (done func(), err error) {
	// Only a source is slowed down by the fraction: what it does not send, no
	// stage behind it has to hold. The others let everything through that they
	// were sent, or they would hold what a full stage behind them waits for.
	targets := []backpressure.FractionSetter{&c.clock}
	if c.Role == RoleSource {
		targets = append(targets, c.Gate)
	}
	var handled rate.Meter
	var mu sync.Mutex // guards handled: reports are asked for by several loops
	report := func() backpressure.Report {
		f := s.figures()
		mu.Lock()
		defer mu.Unlock()
		load := c.Stage.Load()
		c.peak.note(load)
		return backpressure.Report{
			ServiceID: c.ID, Kind: kinds[c.Role], InFlight: c.Stage.InFlight().Messages, MaxInFlight: c.MaxMessages, Load: load,
			QueueDepth: f.Queued, Throughput: handled.Update(time.Now(), float64(f.Events)), Latency: f.Latency,
		}
	}
	c.watchReport(s, report)
	decision := backpressure.Config{Activation: c.BackpressureThreshold, Recovery: c.RecoveryThreshold}
	if !c.Flowctl {
		return func() {}, c.decideAlone(ctx, s, decision, report, targets, running)
	}
	at := c.Addresses()
	member, err := agent.New(agent.Config{
		Endpoint:    c.FlowctlEndpoint,
		DialOptions: c.Security.DialOptions(), // in place of the agent's own, so that certificates can change
		Component: controlplane.Component{
			ID: c.ID, Name: string(c.Role), Version: Version(), Kind: kinds[c.Role], Endpoint: at.Flight,
			HealthEndpoint:  c.Security.Scheme() + "://" + at.HTTP + "/health",
			InputEventTypes: s.Inputs, OutputEventTypes: s.Outputs, Upstreams: s.Upstreams, MaxInFlight: c.MaxMessages,
		},
		HeartbeatInterval: c.HeartbeatInterval,
		Local:             decision,
		Targets:           targets,
		Edges:             c.edges,
		Logger:            c.Log,
		Report:            report,
		Metrics: func() map[string]float64 {
			f := s.figures()
			metrics := map[string]float64{
				controlplane.MetricEvents: float64(f.Events),
				controlplane.MetricErrors: float64(f.Errors),
			}
			if c.Role == RoleSink {
				metrics[controlplane.MetricEndToEnd] = float64(f.EndToEnd) / float64(time.Millisecond)
			}
			c.pools.metrics(func(prefix, endpoint string, n int) { metrics[prefix+endpoint] = float64(n) })
			return metrics
		},
	})
	if err != nil {
		return nil, err
	}
	c.agent.Store(member)
	c.monitor.WatchAgent(c.ID, member)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	running.Go(func() {
		defer close(ended)
		if err := member.Run(ctx); err != nil {
			c.Log.Error("the agent ended", "error", err)
		}
	})
	return func() {
		cancel()
		<-ended
	}, nil
}

// watchReport shows the monitor what the component tells the control plane, so
// that its metrics, the report and the live page say the same.
func (c *Component) watchReport(s Service, report func() backpressure.Report) {
	c.monitor.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		r, v := report(), d.Service(c.ID)
		v.QueueDepth, v.Throughput, v.Latency = r.QueueDepth, r.Throughput, r.Latency
		switch events := uint64(s.figures().Events); c.Role {
		case RoleSource:
			v.In.Events = events
		case RoleSink:
			v.Out.Events = events // written: what is in flight has come in, and is not out
		}
	}))
}

// decideAlone is the decision of a component that nobody coordinates: its own
// load against its own thresholds.
func (c *Component) decideAlone(ctx context.Context, s Service, cfg backpressure.Config,
	report func() backpressure.Report, targets []backpressure.FractionSetter, running *sync.WaitGroup,
) error {
	controller, err := backpressure.New(cfg)
	if err != nil {
		return err
	}
	for _, target := range targets {
		controller.Bind(target)
	}
	c.monitor.WatchController(controller)
	running.Go(func() {
		defer controller.Close()
		for tick := time.NewTicker(controlplane.DefaultReportInterval); ; {
			if err := controller.Report(report()); err != nil {
				c.Log.Warn("own report rejected", "error", err)
			}
			if took := s.figures().EndToEnd; took > 0 {
				c.monitor.ObserveLatency(took)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	})
	return nil
}

func (s Service) figures() Figures {
	if s.Figures == nil {
		return Figures{}
	}
	return s.Figures()
}

// Upstream returns whom to read: the configured endpoint, or else what the
// control plane knows, waiting until it knows one. It returns nothing, and no
// error, when the component is asked to end first.
func (c *Component) Upstream(ctx context.Context, variable, configured string, role Role, eventType string) (endpoint,
	id string, err error,
) {
	if configured != "" {
		c.setUpstream(configured, "") // whose it is, the control plane finds out by the endpoint
		return configured, "", nil
	}
	if !c.Flowctl {
		return "", "", &UsageError{fmt.Errorf("%s is %w", variable, errNoUpstream)}
	}
	conn, err := grpc.NewClient(c.FlowctlEndpoint, c.Security.DialOptions()...)
	if err != nil {
		return "", "", err
	}
	defer conn.Close()
	c.Log.Info("asking the control plane for an upstream", "control_plane", c.FlowctlEndpoint, "role", role, "events",
		eventType)
	filter := controlplane.Filter{Kind: kinds[role], EventTypes: []string{eventType}}
	for poll := time.NewTicker(discoveryInterval); ; {
		began := time.Now()
		found, err := agent.Discover(ctx, conn, filter)
		if err == nil {
			c.monitor.ObserveDiscovery(ctx, time.Since(began))
		}
		for _, candidate := range found {
			if candidate.Endpoint != "" {
				poll.Stop()
				c.setUpstream(candidate.Endpoint, candidate.ID)
				c.Log.Info("found the upstream", "id", candidate.ID, "endpoint", candidate.Endpoint)
				return candidate.Endpoint, candidate.ID, nil
			}
		}
		if err != nil {
			c.Log.Debug("the control plane does not answer yet", "error", err)
		}
		select {
		case <-poll.C:
		case <-c.process.Drain:
			return "", "", nil
		case <-ctx.Done():
			return "", "", ctx.Err()
		}
	}
}

// Known lists the one upstream, or none where its id is not known.
func Known(id string) []string {
	if id == "" {
		return nil
	}
	return []string{id}
}

func (c *Component) setUpstream(endpoint, id string) {
	next := &upstream{id: id, endpoint: endpoint}
	if before := c.upstream.Load(); before != nil { // found again: watched twice, everything would count twice
		before.unwatch()
	}
	next.unwatch = c.monitor.WatchClient(c.ID, id, c.pools.client)
	c.upstream.Store(next)
}

const discoveryInterval = 200 * time.Millisecond
