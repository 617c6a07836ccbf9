package backpressure

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// PipelineMetrics are the pipeline's figures at one moment.
type PipelineMetrics struct {
	// TotalThroughput is what leaves the pipeline, in events per second: the
	// sum over its sinks. A sum over all stages would count an event once a stage.
	TotalThroughput float64
	// EndToEndLatency is the longest way through the pipeline: the largest sum
	// of latencies along a path from an entry to an exit.
	EndToEndLatency time.Duration

	ServiceThroughput map[string]float64       // events per second
	ServiceLatency    map[string]time.Duration // each stage's own part
	QueueDepths       map[string]int64
	ErrorRates        map[string]float64 // 0..1
	LastUpdated       time.Time          // of the newest report
}

// ServiceState is one service at one moment.
type ServiceState struct {
	Report            // the last one, Time filled in
	Load      float64 // the load that counts
	Admitted  float64 // the fraction that it is told
	Path      string  // the path that it follows
	Age       time.Duration
	LastHeard time.Time
}

// PathState is one path at one moment.
type PathState struct {
	Name          string // where it ends; "" for the path of all
	Services      int
	Load          float64 // that drives the decision
	Smoothed      float64
	WorstLoad     float64
	AggregateLoad float64
	WorstService  string
	Fraction      float64
	Active        bool
	Since         time.Time // of the present activation
	Activations   uint64
}

// Snapshot is the controller at one moment.
type Snapshot struct {
	Time          time.Time
	Fraction      float64 // the least of the paths
	Active        bool
	Learning      bool
	Load          float64 // the largest that drives a path
	WorstLoad     float64
	WorstService  string
	AggregateLoad float64 // sum(in flight) / sum(maximum)
	InFlight      int64   // over all services
	ServiceLimits int64   // the sum of the services' maxima
	MaxInFlight   int64   // the pipeline's own limit, negative: none
	Activation    float64
	Recovery      float64
	Driver        Driver
	Policy        string
	Activations   uint64
	ActiveTime    time.Duration // under backpressure on any path, since the start
	Signals       int           // from outside, in force
	// SignalsDropped counts signals that a subscriber never saw, because a newer
	// one took their place.
	SignalsDropped uint64
	Rejected       map[Reason]uint64
	Services       []ServiceState // in order of their ids
	Paths          []PathState
}

// PipelineLoad returns the load that drives the decision, the largest over the
// paths.
func (c *Controller) PipelineLoad() float64 {
	load := wholeLoad(c.cfg.Load(), c.view.inFlight.Load())
	for _, p := range *c.view.paths.Load() {
		load = max(load, p.view.load.load())
	}
	return load
}

// Loads returns the load of each service.
func (c *Controller) Loads() map[string]float64 {
	loads := map[string]float64{}
	for _, s := range c.services.all() {
		loads[s.id] = s.view.load.load()
	}
	return loads
}

// Snapshot returns the whole state. It takes no lock that a report takes: each
// service and each path is consistent in itself, and while reports come in one
// may be a report older than the next.
func (c *Controller) Snapshot() Snapshot {
	now, cfg, v := c.now(), c.cfg.Load(), &c.view
	snap := Snapshot{
		Time: c.base.Add(now), Fraction: c.Fraction(), Learning: v.learning.Load(),
		InFlight: v.inFlight.Load(), MaxInFlight: cfg.MaxInFlight,
		Activation: cfg.Activation, Recovery: cfg.Recovery, Driver: cfg.Driver,
		Policy: policyName(cfg.Policy), Signals: int(v.external.Load()), Rejected: c.Rejected(),
		SignalsDropped: c.dropped.Load(),
	}
	v.version.read(func() {
		snap.Active, snap.ActiveTime = v.active.Load(), time.Duration(v.activeTime.Load())
		if snap.Active {
			snap.ActiveTime += max(0, now-time.Duration(v.activeSince.Load()))
		}
	})
	snap.Paths, snap.Activations = c.states(cfg)
	for _, state := range snap.Paths {
		if state.WorstLoad >= snap.WorstLoad {
			snap.WorstLoad, snap.WorstService = state.WorstLoad, state.WorstService
		}
		snap.Load = max(snap.Load, state.Load)
	}
	var inFlight int64
	all := c.services.all()
	snap.Services = slices.Grow(snap.Services, len(all))
	for _, s := range all {
		state, updated := s.state(c.base)
		inFlight += counted(&state.Report)
		snap.ServiceLimits += state.MaxInFlight
		p := s.path()
		state.Path, state.Admitted, state.Age = p.name, c.admitted(s, p), max(0, now-updated)
		snap.Services = append(snap.Services, state)
	}
	if snap.ServiceLimits > 0 {
		snap.AggregateLoad = float64(inFlight) / float64(snap.ServiceLimits)
	}
	return snap
}

// Paths returns the paths' decisions alone, whose cost does not grow with the
// number of services.
func (c *Controller) Paths() []PathState {
	states, _ := c.states(c.cfg.Load())
	return states
}

// states are the paths that somebody is on, and how often any was activated.
func (c *Controller) states(cfg *Config) (states []PathState, activations uint64) {
	whole := wholeLoad(cfg, c.view.inFlight.Load())
	paths := *c.view.paths.Load()
	states = make([]PathState, 0, len(paths))
	for _, p := range paths {
		state := p.state(c.base)
		activations += state.Activations
		if state.Services == 0 && len(paths) > 1 {
			continue
		}
		state.Load = max(state.Load, whole)
		states = append(states, state)
	}
	return states, activations
}

// Rejected returns how many reports, signals and settings were refused, by reason.
func (c *Controller) Rejected() map[Reason]uint64 {
	all := make(map[Reason]uint64, reasons)
	for i := range c.rejected {
		all[Reason(i)] = c.rejected[i].Load()
	}
	return all
}

// Metrics returns the pipeline's figures.
func (c *Controller) Metrics() PipelineMetrics {
	return c.Snapshot().Metrics()
}

// Metrics works out the pipeline's figures from the snapshot.
func (s Snapshot) Metrics() PipelineMetrics {
	m := PipelineMetrics{
		ServiceThroughput: map[string]float64{},
		ServiceLatency:    map[string]time.Duration{},
		QueueDepths:       map[string]int64{},
		ErrorRates:        map[string]float64{},
	}
	g := newStages(s.Services)
	for _, v := range s.Services {
		m.ServiceThroughput[v.ServiceID] = v.Throughput
		m.ServiceLatency[v.ServiceID] = v.Latency
		m.QueueDepths[v.ServiceID] = v.QueueDepth
		m.ErrorRates[v.ServiceID] = v.ErrorRate
		if v.LastHeard.After(m.LastUpdated) {
			m.LastUpdated = v.LastHeard
		}
		if g.isExit(v) {
			m.TotalThroughput += v.Throughput
		}
	}
	m.EndToEndLatency = g.longest(s.Services)
	return m
}

// stages is the pipeline's graph, for its figures.
type stages struct {
	up    map[string][]string // known upstreams
	feeds map[string]bool
	byID  map[string]ServiceState
	sinks bool
}

func newStages(services []ServiceState) *stages {
	g := &stages{up: map[string][]string{}, feeds: map[string]bool{}, byID: map[string]ServiceState{}}
	var byRole [Sink + 1][]string
	for _, s := range services {
		g.byID[s.ServiceID] = s
		byRole[s.Role] = append(byRole[s.Role], s.ServiceID)
		g.sinks = g.sinks || s.Role == Sink
	}
	edges := false
	for _, s := range services {
		for _, u := range s.Upstreams {
			if _, ok := g.byID[u]; ok {
				g.up[s.ServiceID] = append(g.up[s.ServiceID], u)
				g.feeds[u] = true
				edges = true
			}
		}
	}
	if edges {
		return g
	}
	// Nobody names an upstream: the roles are the order, source, processor, sink.
	var before []string
	for _, role := range []Role{Source, Processor, Sink} {
		for _, id := range byRole[role] {
			g.up[id] = before
		}
		for _, id := range before {
			g.feeds[id] = g.feeds[id] || len(byRole[role]) > 0
		}
		if len(byRole[role]) > 0 {
			before = byRole[role]
		}
	}
	return g
}

// isExit: the sinks, or where none is named whatever feeds nobody.
func (g *stages) isExit(s ServiceState) bool {
	if g.sinks {
		return s.Role == Sink
	}
	return !g.feeds[s.ServiceID]
}

// longest is the largest sum of latencies along a way through the graph. A ring
// counts each of its services once.
func (g *stages) longest(services []ServiceState) time.Duration {
	done := map[string]time.Duration{}
	open := map[string]bool{}
	var until func(id string) time.Duration
	until = func(id string) time.Duration {
		if d, ok := done[id]; ok {
			return d
		}
		if open[id] {
			return 0
		}
		open[id] = true
		var before time.Duration
		for _, u := range g.up[id] {
			before = max(before, until(u))
		}
		done[id] = before + g.byID[id].Latency
		return done[id]
	}
	var longest time.Duration
	for _, s := range services {
		longest = max(longest, until(s.ServiceID))
	}
	return longest
}

func policyName(p Policy) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", p), "*")
}
