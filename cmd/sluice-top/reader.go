package main

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/internal/rate"
	"github.com/withobsrvr/sluice/topology"
)

// callTimeout bounds one look at the control plane.
const callTimeout = 5 * time.Second

// A reader reads the graph from a control plane. Sluice's own sends it whole; of
// a stock one it is put together from the components' registrations and metrics.
type reader struct {
	conn grpc.ClientConnInterface
	// The totals of components that report no rate, over the window that all
	// rates of Sluice share. A component that has left is forgotten.
	totals map[string]*rate.Meter
	// The longest latency that a component says to have measured.
	measured time.Duration
}

func newReader(conn grpc.ClientConnInterface) *reader {
	return &reader{conn: conn, totals: map[string]*rate.Meter{}}
}

// read returns the graph now. A control plane that does not know the call for the
// whole graph is a stock one; any other error is returned as it is.
func (r *reader) read(ctx context.Context) (*topology.Graph, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	graph, err := agent.Topology(ctx, r.conn)
	if status.Code(err) == codes.Unimplemented {
		return r.readStock(ctx)
	}
	return graph, err
}

// readStock puts the graph together from a stock control plane's components.
// Edges are their connection pools, the upstreams that they declare, and what
// [topology.Graph.Normalize] concludes from their event types.
func (r *reader) readStock(ctx context.Context) (*topology.Graph, error) {
	now := time.Now()
	r.measured = 0
	components, err := agent.Components(ctx, r.conn)
	if err != nil {
		return nil, err
	}
	graph := &topology.Graph{Schema: topology.Schema, Time: now}
	before := r.totals
	r.totals = make(map[string]*rate.Meter, len(before))
	for i := range components {
		if meter := before[components[i].ID]; meter != nil {
			r.totals[components[i].ID] = meter
		}
		node, edges := r.node(&components[i], now)
		graph.Nodes, graph.Edges = append(graph.Nodes, node), append(graph.Edges, edges...)
	}
	summarize(graph)
	graph = graph.Normalize()
	if r.measured > 0 {
		graph.Pipeline.Latency, graph.Pipeline.LatencyMeasured = r.measured, true
	} else {
		graph.Pipeline.Latency = longest(graph)
	}
	return graph, nil
}

// node reads a component and the connections that its heartbeat reports.
func (r *reader) node(c *controlplane.Status, now time.Time) (topology.Node, []topology.Edge) {
	status, edges := topology.FromMetrics(c.ID, c.Metrics)
	r.derive(c.ID, c.Metrics, &status, now)
	node := topology.Node{
		ID:               c.ID,
		Name:             c.Name,
		Kind:             c.Kind,
		Version:          c.Version,
		Endpoint:         c.Endpoint,
		InputEventTypes:  c.InputEventTypes,
		OutputEventTypes: c.OutputEventTypes,
		Upstreams:        c.Upstreams,
		Status:           status,
	}
	node.Health, node.LastHeartbeat = c.Health, c.LastHeartbeat
	return node, edges
}

// derive adds what one heartbeat does not say: the rate of a component that reports
// only a total, which takes two looks.
func (r *reader) derive(id string, metrics map[string]float64, s *topology.Status, now time.Time) {
	r.measured = max(r.measured, milliseconds(metrics[controlplane.MetricEndToEnd]))
	if total, ok := metrics[controlplane.MetricEvents]; ok {
		meter := r.totals[id]
		if meter == nil {
			meter = &rate.Meter{}
			r.totals[id] = meter
		}
		if counted := meter.Update(now, total); s.OutRate == 0 {
			s.OutRate = counted
		}
	}
}

// summarize fills in the pipeline's figures from the nodes', as the components
// decide by themselves under a stock control plane.
func summarize(graph *topology.Graph) {
	p := &graph.Pipeline
	p.Fraction = 1
	for i := range graph.Nodes {
		node := &graph.Nodes[i]
		load := node.Load
		if node.MaxInFlight > 0 {
			load = max(load, float64(node.InFlight)/float64(node.MaxInFlight))
		}
		p.Load = max(p.Load, load)
		if node.Fraction > 0 {
			p.Fraction = min(p.Fraction, node.Fraction)
		}
		p.Active = p.Active || node.Active
		if node.Kind == topology.KindSink {
			p.Throughput += node.OutRate
		}
	}
}

// milliseconds reads a duration that somebody else reports: 0 when it cannot be.
func milliseconds(ms float64) time.Duration {
	if !(ms > 0 && ms < float64(24*time.Hour/time.Millisecond)) {
		return 0
	}
	return time.Duration(ms * float64(time.Millisecond))
}

// longest is the largest sum of the nodes' own latencies along a path. An edge
// that closes a cycle ends it.
func longest(graph *topology.Graph) (most time.Duration) {
	own, next := map[string]time.Duration{}, map[string][]string{}
	for i := range graph.Nodes {
		own[graph.Nodes[i].ID] = graph.Nodes[i].Latency
	}
	for i := range graph.Edges {
		next[graph.Edges[i].From] = append(next[graph.Edges[i].From], graph.Edges[i].To)
	}
	sums := map[string]time.Duration{} // from here on; 0 while it is looked at
	var from func(id string) time.Duration
	from = func(id string) time.Duration {
		if sum, seen := sums[id]; seen {
			return sum
		}
		sums[id] = 0
		after := time.Duration(0)
		for _, to := range next[id] {
			after = max(after, from(to))
		}
		sums[id] = own[id] + after
		return sums[id]
	}
	for i := range graph.Nodes { // in their order, so that a cycle gives one number
		most = max(most, from(graph.Nodes[i].ID))
	}
	return most
}
