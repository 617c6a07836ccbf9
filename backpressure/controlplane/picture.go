package controlplane

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

// pictureAge is how old a picture may be that is handed out again: a page, a
// scrape and an export that ask at once see the same one.
const pictureAge = 250 * time.Millisecond

// A picture is the graph at one moment.
type picture struct {
	made  time.Time
	of    uint64 // how many changes it knows of
	graph *topology.Graph
}

// pictures makes them, of what is registered, observed and decided.
type pictures struct {
	server  *Server
	changes atomic.Uint64 // of what is registered and observed

	mu     sync.Mutex // held while a picture is made, which no beat waits for
	latest *picture   // nil: none, or too old
	count  uint64
}

// Topology returns the pipeline's graph; a Server is a [topology.Source].
func (s *Server) Topology() *topology.Graph { return s.pictures.get().graph }

func (p *pictures) changed() { p.changes.Add(1) }

func (p *pictures) get() *picture {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, of := time.Now(), p.changes.Load()
	if latest := p.latest; latest != nil && latest.of == of && now.Sub(latest.made) <= pictureAge {
		return latest
	}
	p.count++
	made := &picture{now, of, p.server.draw(now, p.count)}
	p.latest = made
	time.AfterFunc(pictureAge, func() { p.forget(made) }) // one of ten thousand components is 4 MB
	return made
}

func (p *pictures) forget(old *picture) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.latest == old {
		p.latest = nil
	}
}

// draw makes the graph of the registry and the decision.
func (s *Server) draw(now time.Time, version uint64) *topology.Graph {
	decision, all := s.controller.Overview(), s.registry.inOrder()
	g := &topology.Graph{
		Version: version,
		Time:    now,
		Pipeline: topology.Pipeline{
			Throughput:  decision.TotalThroughput,
			Latency:     decision.EndToEndLatency,
			Load:        decision.Load,
			Fraction:    decision.Fraction,
			Active:      decision.Active,
			Activations: decision.Activations,
			Activate:    decision.Activation,
			Recover:     decision.Recovery,
		},
		Nodes: make([]topology.Node, 0, len(all)),
	}
	// The edges that components tell of are looked at without the registry's lock:
	// they are replaced, never changed.
	type told struct {
		id    string
		edges []Edge
		pools map[string]*topology.Pool
	}
	var edges []told
	s.registry.each(func(e *entry) {
		node := nodeOf(e)
		if service, ok := s.controller.Service(e.ID); ok {
			node.Load, node.Fraction = service.Load, service.Admitted
		}
		if measured := endToEnd(e, node.Health); measured > 0 && (!g.Pipeline.LatencyMeasured || measured > g.Pipeline.Latency) {
			g.Pipeline.Latency, g.Pipeline.LatencyMeasured = measured, true
		}
		g.Nodes = append(g.Nodes, node)
		if len(e.edges) > 0 {
			edges = append(edges, told{e.ID, e.edges, poolsOf(e)})
		}
	})
	for _, of := range edges {
		for _, edge := range of.edges {
			seen := edgeOf(of.id, &edge)
			seen.Pool = of.pools[edge.Endpoint]
			g.Edges = append(g.Edges, seen)
		}
	}
	return g.Complete()
}

// endToEnd is the latency that a component measured, 0 when there is none that
// could be true, and when the component is gone.
func endToEnd(e *entry, health topology.Health) time.Duration {
	ms := e.metrics.value(MetricEndToEnd)
	if health == topology.HealthDown || !(ms > 0 && ms <= float64(maxEndToEnd/time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

const maxEndToEnd = 24 * time.Hour

// poolsOf are the connection pools that the component's metrics tell of, by
// endpoint.
func poolsOf(e *entry) map[string]*topology.Pool {
	_, seen := topology.FromMetrics(e.ID, e.metrics.all())
	pools := make(map[string]*topology.Pool, len(seen))
	for _, edge := range seen {
		pools[edge.Endpoint] = edge.Pool
	}
	return pools
}

// nodeOf needs the registry's lock, and shares nothing with the entry.
func nodeOf(e *entry) topology.Node {
	health := topology.Health(e.Health.String())
	if stale, lost := e.silentLocked(); stale || lost {
		health = topology.HealthDown
	}
	report := &e.Report
	return topology.Node{
		ID:               e.ID,
		Kind:             kindOf(e.Role),
		Name:             e.Name,
		Version:          e.Version,
		Endpoint:         e.Endpoint,
		HealthEndpoint:   e.HealthEndpoint,
		InputEventTypes:  slices.Clone(e.InputEventTypes),
		OutputEventTypes: slices.Clone(e.OutputEventTypes),
		Upstreams:        slices.Clone(e.Upstreams),
		Metadata:         maps.Clone(e.Metadata),
		RegisteredAt:     e.Registered,
		Status: topology.Status{
			Health:        health,
			Load:          report.Load,
			InFlight:      report.InFlight,
			MaxInFlight:   report.MaxInFlight,
			QueueDepth:    report.QueueDepth,
			Fraction:      report.Fraction,
			OutRate:       report.Throughput,
			ErrorRatio:    report.ErrorRate,
			Latency:       report.Latency,
			LastHeartbeat: e.LastHeartbeat,
			Active:        e.metrics.value(MetricActive) > 0,
		},
	}
}

func edgeOf(id string, e *Edge) topology.Edge {
	state := topology.StateDown
	if e.Connected {
		state = topology.StateConnected
	}
	return topology.Edge{
		From:          e.Upstream,
		To:            id,
		Endpoint:      e.Endpoint,
		Origin:        topology.OriginObserved,
		State:         state,
		LastConnected: e.LastConnected,
		Reconnects:    uint64(max(e.Reconnects, 0)),
		Latency:       e.Latency,
		Throughput:    e.Throughput,
		ByteRate:      e.ByteRate,
		Blocked:       e.Blocked,
	}
}

func kindOf(r backpressure.Role) topology.Kind {
	switch r {
	case backpressure.Source:
		return topology.KindSource
	case backpressure.Processor:
		return topology.KindProcessor
	case backpressure.Sink:
		return topology.KindSink
	default:
		return topology.KindUnknown
	}
}
