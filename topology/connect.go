package topology

import (
	"fmt"
	"slices"
	"strings"
)

// connect joins the three origins of edges. What is observed, and what is
// declared, stands. Event types are matched only for inputs that neither
// explains: a guess gives way to knowledge, type by type, so that two processors
// of one source are never joined with each other's sinks.
//
// The nodes are sorted and the edges that come in are sorted by origin, the
// surest first, so that of two edges between the same nodes the surer stays.
func (g *Graph) connect() {
	byID := make(map[string]*Node, len(g.Nodes))
	serves := make(map[string]string, len(g.Nodes)) // endpoint -> smallest id
	producers := map[string][]*Node{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		byID[n.ID] = n
		if at := Endpoint(n.Endpoint); n.Endpoint != "" && serves[at] == "" {
			serves[at] = n.ID
		}
		for _, typ := range n.OutputEventTypes {
			producers[typ] = append(producers[typ], n)
		}
	}
	edges := make(map[key]*Edge, len(g.Edges))
	for i := range g.Edges {
		e := &g.Edges[i]
		if e.From == "" {
			if e.From = serves[Endpoint(e.Endpoint)]; e.From == "" {
				g.unserved(e)
				continue
			}
		}
		if edges[e.key()] == nil {
			edges[e.key()] = e
		}
	}
	for i := range g.Nodes {
		to := &g.Nodes[i]
		for _, up := range to.Upstreams {
			if k := (key{up, to.ID}); up != "" && edges[k] == nil {
				edges[k] = &Edge{From: up, To: to.ID, Origin: OriginDeclared, State: StateUnknown}
			}
		}
	}
	type input struct{ consumer, eventType string }
	explained := map[input]bool{}
	for k, e := range edges {
		from, to := byID[k.from], byID[k.to]
		if from == nil {
			continue
		}
		if e.Endpoint == "" {
			e.Endpoint = from.Endpoint
		}
		if to == nil || e.Origin == OriginMatched {
			continue
		}
		for _, typ := range from.OutputEventTypes {
			if slices.Contains(to.InputEventTypes, typ) {
				explained[input{to.ID, typ}] = true
				e.EventTypes = append(e.EventTypes, typ)
			}
		}
	}
	for i := range g.Nodes {
		to := &g.Nodes[i]
		for _, typ := range to.InputEventTypes {
			if explained[input{to.ID, typ}] {
				continue
			}
			for _, from := range producers[typ] {
				if from == to {
					continue
				}
				k := key{from.ID, to.ID}
				if edges[k] == nil {
					edges[k] = &Edge{From: from.ID, To: to.ID, Endpoint: from.Endpoint, Origin: OriginMatched, State: StateUnknown}
				}
				edges[k].EventTypes = append(edges[k].EventTypes, typ)
			}
		}
	}
	list := make([]Edge, 0, len(edges))
	for _, e := range edges {
		e.EventTypes = set(e.EventTypes)
		list = append(list, *e)
	}
	slices.SortFunc(list, compareEdges)
	g.Edges = list
}

// unserved turns an observation that leads nowhere into a problem.
func (g *Graph) unserved(e *Edge) {
	p := Problem{ProblemEndpoint, []string{e.To}, fmt.Sprintf("%s reads from %s, which no registered node serves", brief(e.To), brief(e.Endpoint))}
	if !slices.ContainsFunc(g.Problems, func(q Problem) bool { return q.Text == p.Text }) {
		g.Problems = append(g.Problems, p)
	}
}

func compareEdges(a, b Edge) int {
	if c := strings.Compare(a.From, b.From); c != 0 {
		return c
	}
	return strings.Compare(a.To, b.To)
}

// surest orders edges by origin, then by endpoint, so that which of two stays
// does not depend on the order that they came in.
func surest(a, b Edge) int {
	if c := rank(a.Origin) - rank(b.Origin); c != 0 {
		return c
	}
	return strings.Compare(a.Endpoint, b.Endpoint)
}

func rank(o Origin) int {
	switch o {
	case OriginObserved:
		return 0
	case OriginDeclared:
		return 1
	default:
		return 2
	}
}
