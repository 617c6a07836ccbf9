package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/topology"
)

// graphAge is how old a graph may be that is given out again: a page, a scrape
// and an export that ask at once see the same one.
const graphAge = 250 * time.Millisecond

// A graphCache keeps the newest graph. Its mutex is held while one is made, so
// that callers that ask meanwhile get the same; no beat waits for it.
type graphCache struct {
	mu    sync.Mutex
	graph *topology.Graph
	made  time.Time
	count uint64
}

// Topology returns the graph of all pipelines, up to a quarter of a second old; a
// Server is a [topology.Source]. The graph is shared with other callers: do not change
// it. Callers wait for each other while one is made; no beat waits for them.
func (s *Server) Topology() *topology.Graph {
	c := &s.graph
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.graph == nil || now.Sub(c.made) > graphAge {
		c.count++
		c.graph, c.made = s.drawGraph(now, c.count), now
	}
	return c.graph
}

// drawGraph makes the graph of the registry and the decision. Both are read one after
// the other, each under its own lock: a component that comes or goes in between is
// missing from one of them, for a quarter of a second. Edges are those that components
// have seen themselves use; topology adds the declared ones.
func (s *Server) drawGraph(now time.Time, version uint64) *topology.Graph {
	decision, all := s.Overview(), s.registry.copies()
	events := s.registry.counted()
	g := &topology.Graph{
		Version: version,
		Time:    now,
		Pipeline: topology.Pipeline{
			Throughput:  decision.TotalThroughput,
			Events:      events,
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
	for _, e := range all {
		node := e.node(now)
		if p := s.known(e.PipelineID); p != nil {
			if service, ok := p.controller.Service(e.ID); ok {
				node.Load, node.Fraction = service.Load, service.Admitted
			}
		}
		pipeline := &g.Pipeline
		if measured := e.endToEnd(node.Health); measured > 0 && (!pipeline.LatencyMeasured || measured > pipeline.Latency) {
			pipeline.Latency, pipeline.LatencyMeasured = measured, true
		}
		g.Nodes = append(g.Nodes, node)
		if len(e.edges) == 0 {
			continue
		}
		pools := e.pools()
		for _, edge := range e.edges {
			edge.Pool = pools[edge.Endpoint]
			g.Edges = append(g.Edges, edge)
		}
	}
	return g.Complete()
}

// maxEndToEnd is the largest latency that is believed: clocks differ, and a wrong one
// would stand on the page as the pipeline's latency.
const maxEndToEnd = 24 * time.Hour

// endToEnd is the latency that the component measured, 0 when there is none that
// could be true, and when the component is gone.
func (e *entry) endToEnd(health topology.Health) time.Duration {
	ms := e.Metrics[controlplane.MetricEndToEnd]
	if health == topology.HealthDown || !(ms > 0 && ms <= float64(maxEndToEnd/time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// pools are the connection pools that the component's metrics describe, by
// endpoint.
func (e *entry) pools() map[string]*topology.Pool {
	_, seen := topology.FromMetrics(e.ID, e.Metrics)
	pools := make(map[string]*topology.Pool, len(seen))
	for _, edge := range seen {
		pools[edge.Endpoint] = edge.Pool
	}
	return pools
}

// node is the component on the page. It shares nothing with the registry.
func (e *entry) node(now time.Time) topology.Node {
	health := e.Health
	if stale, lost := e.silent(now); stale || lost {
		health = topology.HealthDown
	}
	report := &e.Report
	return topology.Node{
		ID:               e.ID,
		Kind:             e.Kind,
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
			Active:        e.active(),
		},
	}
}
