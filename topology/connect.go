package topology

import (
	"fmt"
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/topology/internal/text"
)

// connect joins the three origins of edges. What is observed, and what is
// declared, stands. Event types are matched only for inputs that neither
// explains: a guess gives way to knowledge, type by type, so that two processors
// of one source are never joined with each other's sinks.
//
// The nodes are sorted and the edges that come in are sorted by origin, the
// most reliable first, so that of two edges between the same nodes the more reliable stays.
func (g *Graph) connect(at map[string]int) {
	serves := map[string]string{} // endpoint -> smallest id
	producers := map[string][]*Node{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Endpoint != "" {
			if endpoint := Endpoint(n.Endpoint); serves[endpoint] == "" {
				serves[endpoint] = n.ID
			}
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
	room := max(fewMatches, edgesPerNode*len(g.Nodes))
	for k, e := range edges {
		if e.Origin == OriginMatched { // when it was normalized before
			room--
		}
		from, to := g.nodeAt(at, k.from), g.nodeAt(at, k.to)
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
					if room--; room < 0 {
						g.tooMany()
						break
					}
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

func (g *Graph) nodeAt(at map[string]int, id string) *Node {
	if i, ok := at[id]; ok {
		return &g.Nodes[i]
	}
	return nil
}

// fewMatches is how many guessed edges there may be in any graph; in a large one
// it is edgesPerNode for each node. A thousand producers of what a thousand
// consumers read would otherwise be a million edges, and none of them a help.
const fewMatches = 2000

func (g *Graph) tooMany() {
	g.problem(Problem{
		ProblemMatches, nil,
		"Event types suggest more edges than are drawn: let the components name their upstreams",
	})
}

// unserved turns an observation that leads nowhere into a problem.
func (g *Graph) unserved(e *Edge) {
	g.problem(Problem{ProblemEndpoint, []string{e.To}, fmt.Sprintf(
		"%s reads from %s, which no registered node serves", text.Brief(e.To), text.Brief(e.Endpoint),
	)})
}

func (g *Graph) problem(p Problem) {
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
