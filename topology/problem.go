package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/topology/internal/text"
)

// ProblemKind is a kind of [Problem].
type ProblemKind string

// The kinds of problems.
const (
	// ProblemCycle: the nodes feed one another.
	ProblemCycle ProblemKind = "cycle"
	// ProblemUnregistered: a node reads from one that is not registered.
	ProblemUnregistered ProblemKind = "unregistered"
	// ProblemSourceWithInput and ProblemSinkWithOutput: the kind and the edges
	// disagree.
	ProblemSourceWithInput ProblemKind = "source-with-input"
	ProblemSinkWithOutput  ProblemKind = "sink-with-output"
	// ProblemOrphan: a processor or a sink without an input, or a processor
	// without an output.
	ProblemOrphan ProblemKind = "orphan"
	// ProblemEndpoint: a connection was observed to an endpoint that no node serves.
	ProblemEndpoint ProblemKind = "unknown-endpoint"
	// ProblemMatches: event types suggest so many edges that most were left out.
	ProblemMatches ProblemKind = "too-many-matches"
)

// Problem is something in the graph that does not fit together.
type Problem struct {
	Kind  ProblemKind `json:"kind"`
	Nodes []string    `json:"nodes,omitempty"`
	Text  string      `json:"text"`
}

// misfits are the ways in which a node does not fit in, and how that is said of
// one and of several.
var misfits = [...]struct {
	kind         ProblemKind
	one, several string
}{
	{ProblemUnregistered, "%s is named by others but is not registered", "%s are named by others but are not registered"},
	{ProblemSourceWithInput, "%s is a source, yet something feeds it", "%s are sources, yet something feeds them"},
	{ProblemSinkWithOutput, "%s is a sink, yet it feeds something", "%s are sinks, yet they feed something"},
	{ProblemOrphan, "%s has neither an upstream nor a downstream", "%s have neither an upstream nor a downstream"},
	{ProblemOrphan, "%s has no upstream", "%s have no upstream"},
	{ProblemOrphan, "%s has no downstream", "%s have no downstream"},
}

// misfit returns the place among misfits of a node with so many edges, or -1.
func (n *Node) misfit(ins, outs int) int8 {
	switch {
	case n.Health == HealthUnknown && n.Kind == KindUnknown:
		return 0
	case n.Kind == KindSource && ins > 0:
		return 1
	case n.Kind == KindSink && outs > 0:
		return 2
	case n.Kind == KindProcessor && ins == 0 && outs == 0:
		return 3
	case (n.Kind == KindProcessor || n.Kind == KindSink) && ins == 0:
		return 4
	case n.Kind == KindProcessor && outs == 0:
		return 5
	}
	return -1
}

// problems derives all but ProblemEndpoint and ProblemMatches, whose entries it
// keeps: the graph itself has no such edges. More than named nodes with the same
// are one problem.
func (g *Graph) problems(ix *indexed) []Problem {
	var list []Problem
	for _, members := range g.Cycles {
		list = append(list, Problem{ProblemCycle, members, fmt.Sprintf("%s feed one another in a cycle",
			text.Join(briefs(len(members), func(i int) string { return members[i] })))})
	}
	found := make([]int8, len(g.Nodes)) // among misfits
	var count [len(misfits)]int
	for i := range g.Nodes {
		if found[i] = g.Nodes[i].misfit(len(ix.In.Of(i)), len(ix.Out.Of(i))); found[i] >= 0 {
			count[found[i]]++
		}
	}
	var several [len(misfits)]*Problem
	for i, m := range found {
		n := &g.Nodes[i]
		switch {
		case m < 0:
		case count[m] <= named:
			list = append(list, Problem{misfits[m].kind, []string{n.ID}, fmt.Sprintf(misfits[m].one, text.Brief(n.Title()))})
		default:
			if several[m] == nil {
				several[m] = &Problem{Kind: misfits[m].kind, Nodes: make([]string, 0, count[m])}
			}
			several[m].Nodes = append(several[m].Nodes, n.ID)
		}
	}
	for m, p := range several {
		if p != nil {
			p.Text = fmt.Sprintf(misfits[m].several, text.Join(briefs(len(p.Nodes),
				func(i int) string { return g.Nodes[ix.nodes[p.Nodes[i]]].Title() })))
			list = append(list, *p)
		}
	}
	for _, p := range g.Problems {
		if p.Kind == ProblemEndpoint || p.Kind == ProblemMatches {
			p.Text, p.Nodes = text.Valid(p.Text), set(slices.Clone(p.Nodes))
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Text, b.Text))
	})
	return list
}

// named is how many nodes a sentence names.
const named = 8

// briefs are the first of n names, and how many more there are.
func briefs(n int, name func(int) string) []string {
	list := make([]string, 0, named+1)
	for i := range min(n, named) {
		list = append(list, text.Brief(name(i)))
	}
	if n > named {
		list = append(list, fmt.Sprintf("%d more", n-named))
	}
	return list
}
