package topology

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/topology/internal/adjacency"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

// defaultActivate and defaultRecover are the thresholds shown where a graph
// names none.
const (
	defaultActivate = 0.80
	defaultRecover  = 0.60
)

// Normalize returns a complete copy of a graph that a caller may have put
// together, and is how edges come about: those given are kept (one without From
// starts at the node that serves its Endpoint), those that nodes declare by
// Upstreams are added, and then those that matching event types suggest, for
// inputs that nothing more reliable explains.
//
// The copy is sorted and without duplicates, every edge's ends are present,
// every figure is finite and not negative, every text valid UTF-8, and the
// derived fields are filled in. All exports use it, so their output depends on
// the content alone. Normalizing twice is the same as once.
func (g *Graph) Normalize() *Graph { return g.Clone().Complete() }

// Complete is Normalize without the copy, for a graph that was just put together
// and whose lists and maps are not shared. It returns the graph itself.
func (g *Graph) Complete() *Graph {
	g.Schema = Schema
	g.Name = text.Valid(g.Name)
	p := &g.Pipeline
	clean(&p.Throughput, &p.Load, &p.Fraction, &p.Activate, &p.Recover)
	p.Latency = max(p.Latency, 0)
	p.Activate = cmp.Or(p.Activate, defaultActivate)
	p.Recover = cmp.Or(p.Recover, defaultRecover)

	for i := range g.Nodes {
		g.Nodes[i].normalize()
	}
	for i := range g.Edges {
		g.Edges[i].normalize()
	}
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n Node) bool { return n.ID == "" })
	g.sortNodes()
	g.Nodes = slices.CompactFunc(g.Nodes, func(a, b Node) bool { return a.ID == b.ID })
	g.Edges = slices.DeleteFunc(g.Edges, func(e Edge) bool { return e.To == "" || e.From == "" && e.Endpoint == "" })
	slices.SortStableFunc(g.Edges, surest)
	at := g.places()
	g.connect(at)
	if g.addMissingEnds(at) {
		g.sortNodes()
		at = g.places()
	}
	if g.Nodes == nil {
		g.Nodes = []Node{} // JSON readers iterate without asking for null
	}
	if g.Edges == nil {
		g.Edges = []Edge{}
	}
	for i := range g.Alerts {
		a := &g.Alerts[i]
		a.Name, a.Severity, a.Node, a.Summary = text.Valid(a.Name), text.Valid(a.Severity), text.Valid(a.Node),
			text.Valid(a.Summary)
	}
	slices.SortStableFunc(g.Alerts, func(a, b Alert) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Node, b.Node))
	})
	g.derive(index(g, at))
	return g
}

// sortNodes sorts by id. Nodes are large, and most graphs come sorted.
func (g *Graph) sortNodes() {
	byID := func(a, b Node) int { return strings.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(g.Nodes, byID) {
		slices.SortStableFunc(g.Nodes, byID)
	}
}

// places are the places of the nodes by their ids.
func (g *Graph) places() map[string]int {
	at := make(map[string]int, len(g.Nodes))
	for i := range g.Nodes {
		at[g.Nodes[i].ID] = i
	}
	return at
}

// derive fills in what follows from the rest of a sorted graph.
func (g *Graph) derive(ix *indexed) {
	for i := range g.Nodes {
		g.Nodes[i].Cause, g.Nodes[i].Cyclic = false, false
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		from, to := &g.Nodes[ix.From[i]], &g.Nodes[ix.To[i]]
		if from.Health == HealthDown || to.Health == HealthDown {
			e.State = StateDown
			e.Throughput, e.ByteRate, e.Blocked = 0, 0, 0
		}
		e.Connected = e.State.Up()
		e.Cyclic = false
		// With one way in, or one way out, the node's own rate is the edge's.
		if e.Throughput == 0 && e.State != StateDown {
			switch {
			case len(ix.In.Of(ix.To[i])) == 1 && to.InRate > 0:
				e.Throughput = to.InRate
			case len(ix.Out.Of(ix.From[i])) == 1 && from.OutRate > 0:
				e.Throughput = from.OutRate
			}
		}
	}
	// What its edges bring is what a node takes in, where it does not say itself.
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.InRate > 0 {
			continue
		}
		for _, e := range ix.In.Of(i) {
			n.InRate += g.Edges[e].Throughput
		}
	}
	g.findCycles(ix)
	g.Problems = g.problems(ix)
	g.Bottleneck = g.findBottleneck(ix)
	if g.Bottleneck != nil {
		g.Nodes[ix.nodes[g.Bottleneck.Node]].Cause = true
	}
}

// indexed is a sorted graph by numbers, and the number of each node by its id.
type indexed struct {
	adjacency.Graph
	nodes map[string]int
}

func index(g *Graph, at map[string]int) *indexed {
	from, to := make([]int, len(g.Edges)), make([]int, len(g.Edges))
	for i := range g.Edges {
		from[i], to[i] = at[g.Edges[i].From], at[g.Edges[i].To]
	}
	return &indexed{adjacency.New(len(g.Nodes), from, to), at}
}

// addMissingEnds adds the nodes that edges name and that are not registered, and
// reports whether there are any.
func (g *Graph) addMissingEnds(at map[string]int) bool {
	before := len(g.Nodes)
	for i := range g.Edges {
		for _, id := range []string{g.Edges[i].From, g.Edges[i].To} {
			if _, known := at[id]; !known {
				at[id] = len(g.Nodes)
				g.Nodes = append(g.Nodes, Node{ID: id, Kind: KindUnknown, Status: Status{Health: HealthUnknown}})
			}
		}
	}
	return len(g.Nodes) > before
}

func (n *Node) normalize() {
	n.ID, n.Name, n.Version = text.Valid(n.ID), text.Valid(n.Name), text.Valid(n.Version)
	n.Endpoint, n.HealthEndpoint = text.Valid(n.Endpoint), text.Valid(n.HealthEndpoint)
	switch n.Kind {
	case KindSource, KindProcessor, KindSink, KindControl:
	default:
		n.Kind = KindUnknown
	}
	n.InputEventTypes, n.OutputEventTypes = set(n.InputEventTypes), set(n.OutputEventTypes)
	n.Upstreams = set(n.Upstreams)
	for k, v := range n.Metadata {
		if tk, tv := text.Valid(k), text.Valid(v); tk != k || tv != v {
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
	e.From, e.To, e.Endpoint = text.Valid(e.From), text.Valid(e.To), text.Valid(e.Endpoint)
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

func set(list []string) []string {
	for i := range list {
		list[i] = text.Valid(list[i])
	}
	slices.Sort(list)
	return slices.Compact(list)
}
