package backpressure

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// ServiceState is one service at one moment. Its Load hides that of the report: it is
// the larger of that one and in flight / maximum.
type ServiceState struct {
	Report                  // the last one, Time filled in
	Load      float64       // the load that counts
	Admitted  float64       // the fraction that it should admit
	Path      string        // the path that it follows
	Age       time.Duration // since its last report
	LastHeard time.Time     // when that was, by our clock
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

// Snapshot is the controller at one moment: all of it was true at once. It shares
// nothing with the controller. Loads and fractions are shares, rates are per second.
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
	Activations   uint64        // on all paths since the start, also on those that are gone
	ActiveTime    time.Duration // under backpressure on any path, since the start
	Signals       int           // from outside, in force
	// SignalsDropped counts signals that a subscriber never saw, because a newer
	// one took their place.
	SignalsDropped uint64
	Rejected       map[Reason]uint64
	// TotalThroughput is what leaves the pipeline, in events per second: the
	// sum over its sinks. A sum over all stages would count an event once a stage.
	TotalThroughput float64
	// EndToEndLatency is the longest way through the pipeline: the largest sum
	// of latencies along a path from an entry to an exit.
	EndToEndLatency time.Duration
	Services        []ServiceState // in order of their ids
	Paths           []PathState
}

// Snapshot returns the whole state at one moment. It holds the lock, shared, for a
// copy of each service; sorting and the figures of the graph come after. Ten thousand
// services take some milliseconds: a caller that has the services from elsewhere takes
// [Controller.Overview], and one that watches the decision [Controller.Paths].
func (c *Controller) Snapshot() Snapshot {
	c.mu.RLock()
	now := c.now()
	snap := c.overviewLocked(now)
	snap.Services = make([]ServiceState, 0, len(c.services))
	for _, s := range c.services {
		snap.Services = append(snap.Services, c.stateLocked(s, now))
	}
	c.mu.RUnlock()
	slices.SortFunc(snap.Services, func(a, b ServiceState) int { return strings.Compare(a.ServiceID, b.ServiceID) })
	stages := make([]stage, len(snap.Services))
	for i := range snap.Services {
		s := &snap.Services[i]
		stages[i] = stageOf(&s.Report)
		s.Upstreams = slices.Clone(s.Upstreams)
	}
	snap.sum(stages)
	return snap
}

// Overview returns a snapshot without the services, for callers that have them
// from elsewhere.
func (c *Controller) Overview() Snapshot {
	c.mu.RLock()
	snap := c.overviewLocked(c.now())
	stages := make([]stage, 0, len(c.services))
	for _, s := range c.services {
		stages = append(stages, stageOf(&s.report))
	}
	c.mu.RUnlock()
	snap.sum(stages)
	return snap
}

// Service returns the state of one service, and whether it is known.
func (c *Controller) Service(id string) (ServiceState, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := c.services[id]
	if s == nil {
		return ServiceState{}, false
	}
	state := c.stateLocked(s, c.now())
	state.Upstreams = slices.Clone(state.Upstreams)
	return state, true
}

// stateLocked shares its upstreams with the service.
func (c *Controller) stateLocked(s *service, now time.Duration) ServiceState {
	state := ServiceState{
		Report: s.report, Load: s.load, Admitted: c.admittedLocked(s), Path: s.path().name,
		Age: max(0, now-s.updated), LastHeard: c.base.Add(s.updated),
	}
	if state.Time.IsZero() {
		state.Time = state.LastHeard
	}
	return state
}

// overviewLocked is what a snapshot says of the decision.
func (c *Controller) overviewLocked(now time.Duration) Snapshot {
	cfg := c.cfg.Load()
	snap := Snapshot{
		Time: c.base.Add(now), Fraction: c.fraction, Learning: c.learning,
		InFlight: c.inFlight, MaxInFlight: cfg.MaxInFlight,
		Activation: cfg.Activation, Recovery: cfg.Recovery, Driver: cfg.Driver,
		Policy: policyName(cfg.Policy), Signals: len(c.external), Rejected: c.Rejected(),
		SignalsDropped: c.dropped.Load(), Active: c.active, ActiveTime: c.activeTime, Activations: c.activations,
	}
	if c.active {
		snap.ActiveTime += max(0, now-c.activeSince)
	}
	snap.Paths = c.statesLocked(cfg)
	for _, state := range snap.Paths {
		if state.WorstLoad >= snap.WorstLoad {
			snap.WorstLoad, snap.WorstService = state.WorstLoad, state.WorstService
		}
		snap.Load = max(snap.Load, state.Load)
	}
	return snap
}

// sum fills in what is made of all services, outside the lock: no decision reads it.
func (s *Snapshot) sum(stages []stage) {
	g := newStages(stages)
	var inFlight int64
	if inFlight, s.ServiceLimits = g.fill(); s.ServiceLimits > 0 {
		s.AggregateLoad = float64(inFlight) / float64(s.ServiceLimits)
	}
	s.TotalThroughput, s.EndToEndLatency = g.throughput(), g.longest()
}

// Paths returns the paths' decisions alone, whose cost does not grow with the
// number of services. Their order stays until services or edges come or go.
func (c *Controller) Paths() []PathState {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.statesLocked(c.cfg.Load())
}

// statesLocked are the paths that have services; where there is only one, that one.
func (c *Controller) statesLocked(cfg *Config) []PathState {
	whole := wholeLoad(cfg, c.inFlight)
	states := make([]PathState, 0, len(c.paths))
	for _, p := range c.paths {
		state := p.stateLocked(cfg, c.base)
		if state.Services == 0 && len(c.paths) > 1 {
			continue
		}
		state.Load = max(state.Load, whole)
		states = append(states, state)
	}
	return states
}

// Rejected returns how many reports, signals and settings were rejected since the
// start, by reason. Every reason is in it, also at 0.
func (c *Controller) Rejected() map[Reason]uint64 {
	all := make(map[Reason]uint64, reasons)
	for i := range c.rejected {
		all[Reason(i)] = c.rejected[i].Load()
	}
	return all
}

// policyName is what the policy calls itself, or its type.
func policyName(p Policy) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", p), "*")
}
