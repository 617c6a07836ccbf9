package topology

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

// DefaultActivate and DefaultRecover are the thresholds shown where a graph
// names none.
const (
	DefaultActivate = 0.80
	DefaultRecover  = 0.60
)

// Normalize returns a complete copy of a graph that anybody may have put
// together, and is how edges come about: those given are kept (one without From
// starts at the node that serves its Endpoint), those that nodes declare by
// Upstreams are added, and then those that matching event types suggest, for
// inputs that nothing surer explains.
//
// The copy is sorted and without duplicates, every edge's ends are present,
// every figure is finite and not negative, every text valid UTF-8, and the
// derived fields are filled in. All exports use it, so their output depends on
// the content alone. Normalizing twice is the same as once.
func (g *Graph) Normalize() *Graph {
	c := g.Clone()
	c.Schema = Schema
	c.Name = text(c.Name)
	p := &c.Pipeline
	clean(&p.Throughput, &p.Load, &p.Fraction, &p.Activate, &p.Recover)
	p.Latency = max(p.Latency, 0)
	p.Activate = cmp.Or(p.Activate, DefaultActivate)
	p.Recover = cmp.Or(p.Recover, DefaultRecover)

	for i := range c.Nodes {
		c.Nodes[i].normalize()
	}
	for i := range c.Edges {
		c.Edges[i].normalize()
	}
	c.Nodes = slices.DeleteFunc(c.Nodes, func(n Node) bool { return n.ID == "" })
	byID := func(a, b Node) int { return strings.Compare(a.ID, b.ID) }
	slices.SortStableFunc(c.Nodes, byID)
	c.Nodes = slices.CompactFunc(c.Nodes, func(a, b Node) bool { return a.ID == b.ID })
	c.Edges = slices.DeleteFunc(c.Edges, func(e Edge) bool { return e.To == "" || e.From == "" && e.Endpoint == "" })
	slices.SortStableFunc(c.Edges, surest)
	c.connect()
	c.Nodes = addMissingEnds(c.Nodes, c.Edges)
	slices.SortFunc(c.Nodes, byID)
	if c.Nodes == nil {
		c.Nodes = []Node{} // JSON readers iterate without asking for null
	}
	if c.Edges == nil {
		c.Edges = []Edge{}
	}
	for i := range c.Alerts {
		a := &c.Alerts[i]
		a.Name, a.Severity, a.Node, a.Summary = text(a.Name), text(a.Severity), text(a.Node), text(a.Summary)
	}
	slices.SortStableFunc(c.Alerts, func(a, b Alert) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Node, b.Node))
	})
	c.derive()
	return c
}

// derive fills in what follows from the rest of a sorted graph.
func (g *Graph) derive() {
	ix := index(g)
	for i := range g.Nodes {
		g.Nodes[i].Cause, g.Nodes[i].Cyclic = false, false
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		from, to := &g.Nodes[ix.from[i]], &g.Nodes[ix.to[i]]
		if from.Health == HealthDown || to.Health == HealthDown {
			e.State = StateDown
			e.Throughput, e.ByteRate, e.Blocked = 0, 0, 0
		}
		e.Connected = e.State.Up()
		e.Cyclic, e.Back = false, false
		// With one way in, or one way out, the node's own rate is the edge's.
		if e.Throughput == 0 && e.State != StateDown {
			switch {
			case len(ix.in[ix.to[i]]) == 1 && to.InRate > 0:
				e.Throughput = to.InRate
			case len(ix.out[ix.from[i]]) == 1 && from.OutRate > 0:
				e.Throughput = from.OutRate
			}
		}
	}
	g.findCycles(ix)
	g.Problems = g.problems(ix)
	g.Bottleneck = g.findBottleneck(ix)
	if g.Bottleneck != nil {
		g.Nodes[ix.of[g.Bottleneck.Node]].Cause = true
	}
}

// adjacency is a sorted graph by numbers: edge i goes from node from[i] to node
// to[i]; out[n] and in[n] are edge numbers.
type adjacency struct {
	of       map[string]int
	from, to []int
	out, in  [][]int
}

func index(g *Graph) *adjacency {
	a := &adjacency{
		of:   make(map[string]int, len(g.Nodes)),
		from: make([]int, len(g.Edges)), to: make([]int, len(g.Edges)),
		out: make([][]int, len(g.Nodes)), in: make([][]int, len(g.Nodes)),
	}
	for i := range g.Nodes {
		a.of[g.Nodes[i].ID] = i
	}
	for i := range g.Edges {
		from, to := a.of[g.Edges[i].From], a.of[g.Edges[i].To]
		a.from[i], a.to[i] = from, to
		a.out[from] = append(a.out[from], i)
		a.in[to] = append(a.in[to], i)
	}
	return a
}

func addMissingEnds(nodes []Node, edges []Edge) []Node {
	known := make(map[string]bool, len(nodes))
	for i := range nodes {
		known[nodes[i].ID] = true
	}
	for i := range edges {
		for _, id := range []string{edges[i].From, edges[i].To} {
			if !known[id] {
				known[id] = true
				nodes = append(nodes, Node{ID: id, Kind: KindUnknown, Status: Status{Health: HealthUnknown}})
			}
		}
	}
	return nodes
}

func (n *Node) normalize() {
	n.ID, n.Name, n.Version = text(n.ID), text(n.Name), text(n.Version)
	n.Endpoint, n.HealthEndpoint = text(n.Endpoint), text(n.HealthEndpoint)
	switch n.Kind {
	case KindSource, KindProcessor, KindSink, KindControl:
	default:
		n.Kind = KindUnknown
	}
	n.InputEventTypes, n.OutputEventTypes = set(n.InputEventTypes), set(n.OutputEventTypes)
	n.Upstreams = set(n.Upstreams)
	for k, v := range n.Metadata {
		if tk, tv := text(k), text(v); tk != k || tv != v {
			delete(n.Metadata, k)
			n.Metadata[tk] = tv
		}
	}
	n.Status.normalize()
}

func (s *Status) normalize() {
	switch s.Health {
	case HealthHealthy, HealthStarting, HealthDegraded, HealthUnhealthy, HealthStopping, HealthDown:
	default:
		s.Health = HealthUnknown
	}
	clean(&s.Load, &s.Fraction, &s.InRate, &s.OutRate, &s.ErrorRate, &s.ErrorRatio)
	s.InFlight, s.MaxInFlight, s.Peak = max(s.InFlight, 0), max(s.MaxInFlight, 0), max(s.Peak, 0)
	s.QueueDepth, s.QueueCapacity = max(s.QueueDepth, 0), max(s.QueueCapacity, 0)
	s.Latency = max(s.Latency, 0)
	if s.Load == 0 && s.MaxInFlight > 0 {
		s.Load = float64(s.InFlight) / float64(s.MaxInFlight)
	}
}

func (e *Edge) normalize() {
	e.From, e.To, e.Endpoint = text(e.From), text(e.To), text(e.Endpoint)
	e.EventTypes = set(e.EventTypes)
	switch e.Origin {
	case OriginObserved, OriginMatched:
	default:
		e.Origin = OriginDeclared
	}
	switch e.State {
	case StateConnected, StateConnecting, StateDegraded, StateDown:
	default:
		e.State = StateUnknown
	}
	clean(&e.Throughput, &e.ByteRate, &e.Blocked)
	e.Blocked = min(e.Blocked, 1)
	e.Latency = max(e.Latency, 0)
}

// clean makes each figure one that every export can print.
func clean(figures ...*float64) {
	for _, f := range figures {
		if math.IsNaN(*f) || math.IsInf(*f, 0) || *f < 0 {
			*f = 0
		}
	}
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func set(list []string) []string {
	for i := range list {
		list[i] = text(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list)
}
