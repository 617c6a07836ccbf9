package controlplane

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

// graphAge is how old a graph may be that is handed out again: a page, a scrape
// and an export that ask at once see the same picture.
const graphAge = 250 * time.Millisecond

// graph makes the topology of what is registered, observed and decided.
type graph struct {
	server  *Server
	changes atomic.Uint64 // of what is registered and observed

	mu    sync.Mutex // held while a graph is made, which no beat waits for
	made  time.Time
	of    uint64 // how many changes it knows of
	graph *topology.Graph
	count uint64
}

func newGraph(s *Server) *graph { return &graph{server: s} }

// Topology returns the pipeline's graph; a Server is a [topology.Source].
func (s *Server) Topology() *topology.Graph { return s.graph.get() }

func (g *graph) changed() { g.changes.Add(1) }

func (g *graph) get() *topology.Graph {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now, of := time.Now(), g.changes.Load(); g.graph == nil || of != g.of || now.Sub(g.made) > graphAge {
		g.count++
		g.graph, g.made, g.of = g.server.build(now, g.count), now, of
	}
	return g.graph
}

func (s *Server) build(now time.Time, version uint64) *topology.Graph {
	snapshot := s.controller.Snapshot()
	metrics := snapshot.Metrics()
	admitted := make(map[string]*backpressure.ServiceState, len(snapshot.Services))
	for i := range snapshot.Services {
		admitted[snapshot.Services[i].ServiceID] = &snapshot.Services[i]
	}
	g := &topology.Graph{
		Version: version,
		Time:    now,
		Pipeline: topology.Pipeline{
			Throughput:  metrics.TotalThroughput,
			Latency:     metrics.EndToEndLatency,
			Load:        snapshot.Load,
			Fraction:    snapshot.Fraction,
			Active:      snapshot.Active,
			Activations: snapshot.Activations,
			Activate:    snapshot.Activation,
			Recover:     snapshot.Recovery,
		},
	}
	type component struct {
		Status
		edges []Edge // replaced, never changed
	}
	components := make([]component, 0, len(snapshot.Services))
	s.registry.each(func(e *entry) {
		components = append(components, component{s.registry.statusLocked(e), e.edges})
	})
	g.Nodes = slices.Grow(g.Nodes, len(components))
	for i := range components {
		e := &components[i]
		status := e.Status.clone()
		node := nodeOf(&status)
		if measured := endToEnd(&status); measured > 0 && (!g.Pipeline.LatencyMeasured || measured > g.Pipeline.Latency) {
			g.Pipeline.Latency, g.Pipeline.LatencyMeasured = measured, true
		}
		if service := admitted[e.ID]; service != nil {
			node.Load = service.Load
			node.Fraction = service.Admitted
		}
		g.Nodes = append(g.Nodes, node)
		pools := poolsOf(&status)
		for _, edge := range e.edges {
			seen := edgeOf(e.ID, &edge)
			seen.Pool = pools[edge.Endpoint]
			g.Edges = append(g.Edges, seen)
		}
	}
	return g.Normalize()
}

// endToEnd is the latency that a component measured, 0 when there is none that
// could be true, and when the component is gone.
func endToEnd(status *Status) time.Duration {
	ms := status.Metrics[MetricEndToEnd]
	if status.Stale || status.Lost || !(ms > 0 && ms <= float64(maxEndToEnd/time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

const maxEndToEnd = 24 * time.Hour

// poolsOf are the connection pools that the component's metrics tell of, by
// endpoint.
func poolsOf(status *Status) map[string]*topology.Pool {
	_, seen := topology.FromMetrics(status.ID, status.Metrics)
	pools := make(map[string]*topology.Pool, len(seen))
	for _, edge := range seen {
		pools[edge.Endpoint] = edge.Pool
	}
	return pools
}

func nodeOf(status *Status) topology.Node {
	health := topology.Health(status.Health.String())
	if status.Stale || status.Lost {
		health = topology.HealthDown
	}
	report := &status.Report
	return topology.Node{
		ID:               status.ID,
		Kind:             kindOf(status.Role),
		Name:             status.Name,
		Version:          status.Version,
		Endpoint:         status.Endpoint,
		HealthEndpoint:   status.HealthEndpoint,
		InputEventTypes:  status.InputEventTypes,
		OutputEventTypes: status.OutputEventTypes,
		Upstreams:        status.Upstreams,
		Metadata:         status.Metadata,
		RegisteredAt:     status.Registered,
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
			LastHeartbeat: status.LastHeartbeat,
			Active:        status.Metrics[MetricActive] > 0,
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
