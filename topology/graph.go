package topology

import (
	"slices"
	"time"
)

// Schema is the version of the JSON form. A reader rejects a larger one; fields
// may be added without changing it.
const Schema = 1

// Graph is the pipeline at one moment. One that came from a [Tracker] or from
// [Graph.Normalize] is complete and sorted: nodes by id, edges by
// (From, To), at most one each. Treat a graph that you were given as immutable: it is shared.
type Graph struct {
	// Schema is [Schema] in what this package writes.
	Schema int `json:"schema"`
	// Version grows with every change of the tracker that made the graph.
	Version uint64 `json:"version,omitempty"`
	// Time is the moment that the graph shows.
	Time time.Time `json:"time,omitzero"`
	// Name is the pipeline's name, for headings. Empty: "pipeline".
	Name string `json:"name,omitempty"`
	// Pipeline holds the figures of the whole.
	Pipeline Pipeline `json:"pipeline"`
	Nodes    []Node   `json:"nodes"`
	Edges    []Edge   `json:"edges"`
	// Cycles lists the members of each cycle, sorted. Derived.
	Cycles [][]string `json:"cycles,omitempty"`
	// Problems says what does not fit together. Derived.
	Problems []Problem `json:"problems,omitempty"`
	// Bottleneck is the root cause of what is blocked, nil when nothing is.
	// Derived.
	Bottleneck *Bottleneck `json:"bottleneck,omitempty"`
	// Alerts are what the maker of the graph says is firing, or about to.
	Alerts []Alert `json:"alerts,omitempty"`
}

// Pipeline holds the figures of the whole pipeline, as the process that decides sees
// them. Zero means unknown, except where a field says otherwise.
type Pipeline struct {
	// Throughput is in events per second leaving the sinks.
	Throughput float64 `json:"throughput,omitempty"`
	// Events is how many have left the sinks since the control plane began to
	// count: the growth of what they count themselves.
	Events uint64 `json:"events,omitempty"`
	// Latency is that of the longest path, source to sink. LatencyMeasured says
	// that sinks measured it on what they read, rather than that it is the sum of
	// the components' own.
	Latency         time.Duration `json:"latency_ns,omitempty"`
	LatencyMeasured bool          `json:"latency_measured,omitempty"`
	// Load is the load that is compared with the thresholds, 0..1 and beyond.
	Load float64 `json:"load,omitempty"`
	// Fraction is the share that is admitted. Zero is shown as 1.
	Fraction float64 `json:"fraction,omitempty"`
	// Active says that backpressure is active.
	Active bool `json:"active,omitempty"`
	// Activations counts how often it became so.
	Activations uint64 `json:"activations,omitempty"`
	// Activate and Recover are the two thresholds. Zero: 0.80 and 0.60.
	Activate float64 `json:"activate,omitempty"`
	Recover  float64 `json:"recover,omitempty"`
}

// Alert is an alert. One that is about to fire is shown as "info".
type Alert struct {
	Name     string    `json:"name"`
	Severity string    `json:"severity,omitempty"` // "info", "warning" or "critical"
	Node     string    `json:"node,omitempty"`     // the node's id, empty: the pipeline
	Summary  string    `json:"summary,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// Source is anything that knows the present graph. Topology must be safe for
// concurrent use, fast, and must not return nil.
type Source interface {
	Topology() *Graph
}

// SourceFunc makes a function a [Source].
type SourceFunc func() *Graph

// Topology calls f.
func (f SourceFunc) Topology() *Graph { return f() }

// Node returns the node with the given id.
func (g *Graph) Node(id string) (Node, bool) {
	for i := range g.Nodes {
		if g.Nodes[i].ID == id {
			return g.Nodes[i], true
		}
	}
	return Node{}, false
}

// Edge returns the edge from one id to another.
func (g *Graph) Edge(from, to string) (Edge, bool) {
	for i := range g.Edges {
		if g.Edges[i].From == from && g.Edges[i].To == to {
			return g.Edges[i], true
		}
	}
	return Edge{}, false
}

// Clone returns a deep copy.
func (g *Graph) Clone() *Graph {
	c := *g
	c.Nodes = slices.Clone(g.Nodes)
	for i := range c.Nodes {
		c.Nodes[i] = c.Nodes[i].clone()
	}
	c.Edges = slices.Clone(g.Edges)
	for i := range c.Edges {
		c.Edges[i] = c.Edges[i].clone()
	}
	c.Cycles = slices.Clone(g.Cycles)
	for i := range c.Cycles {
		c.Cycles[i] = slices.Clone(c.Cycles[i])
	}
	c.Problems = slices.Clone(g.Problems)
	c.Alerts = slices.Clone(g.Alerts)
	if g.Bottleneck != nil {
		c.Bottleneck = new(*g.Bottleneck)
		c.Bottleneck.Blocks = slices.Clone(g.Bottleneck.Blocks)
		c.Bottleneck.HoldsUp = slices.Clone(g.Bottleneck.HoldsUp)
	}
	return &c
}
