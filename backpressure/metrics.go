package backpressure

import (
	"fmt"
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
	// TotalThroughput and EndToEndLatency are those of [PipelineMetrics].
	TotalThroughput float64
	EndToEndLatency time.Duration
	Services        []ServiceState // in order of their ids
	Paths           []PathState
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
	now, all := c.now(), c.services.all()
	snap := c.overview(now)
	snap.Services = make([]ServiceState, 0, len(all))
	for _, s := range all {
		snap.Services = append(snap.Services, c.stateOf(s, now))
	}
	snap.sum(newStages(len(all), func(i int) stage { return snap.Services[i].stage() }))
	return snap
}

// Overview returns a snapshot without the services. It looks at each of them,
// but allocates for none unless they name their upstreams.
func (c *Controller) Overview() Snapshot {
	all := c.services.all()
	snap := c.overview(c.now())
	snap.sum(newStages(len(all), func(i int) stage { return all[i].stage() }))
	return snap
}

// Service returns the state of one service, and whether it is known.
func (c *Controller) Service(id string) (ServiceState, bool) {
	if s := c.services.find(id); s != nil {
		return c.stateOf(s, c.now()), true
	}
	return ServiceState{}, false
}

func (c *Controller) stateOf(s *service, now time.Duration) ServiceState {
	state, updated := s.state(c.base)
	p := s.path()
	state.Path, state.Admitted, state.Age = p.name, c.admitted(s, p), max(0, now-updated)
	return state
}

// overview is what a snapshot says of the decision.
func (c *Controller) overview(now time.Duration) Snapshot {
	cfg, v := c.cfg.Load(), &c.view
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
	return snap
}

// sum fills in what is made of all services.
func (s *Snapshot) sum(g *stages) {
	var inFlight int64
	if inFlight, s.ServiceLimits = g.fill(); s.ServiceLimits > 0 {
		s.AggregateLoad = float64(inFlight) / float64(s.ServiceLimits)
	}
	s.TotalThroughput, s.EndToEndLatency = g.throughput(), g.longest()
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
	n := len(s.Services)
	m := PipelineMetrics{
		ServiceThroughput: make(map[string]float64, n),
		ServiceLatency:    make(map[string]time.Duration, n),
		QueueDepths:       make(map[string]int64, n),
		ErrorRates:        make(map[string]float64, n),
	}
	m.TotalThroughput, m.EndToEndLatency = s.TotalThroughput, s.EndToEndLatency
	for i := range s.Services {
		v := &s.Services[i]
		m.ServiceThroughput[v.ServiceID] = v.Throughput
		m.ServiceLatency[v.ServiceID] = v.Latency
		m.QueueDepths[v.ServiceID] = v.QueueDepth
		m.ErrorRates[v.ServiceID] = v.ErrorRate
		if v.LastHeard.After(m.LastUpdated) {
			m.LastUpdated = v.LastHeard
		}
	}
	return m
}

func policyName(p Policy) string {
	if s, ok := p.(fmt.Stringer); ok {
		return s.String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", p), "*")
}
