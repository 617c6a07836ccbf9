package topology

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// ProblemKind is a kind of [Problem].
type ProblemKind string

// The kinds of problems.
const (
	// ProblemCycle: the nodes feed one another.
	ProblemCycle ProblemKind = "cycle"
	// ProblemUnregistered: somebody reads from a node that nobody registered.
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
)

// Problem is something in the graph that does not fit together.
type Problem struct {
	Kind  ProblemKind `json:"kind"`
	Nodes []string    `json:"nodes,omitempty"`
	Text  string      `json:"text"`
}

// problems derives all but ProblemEndpoint, whose entries it keeps: they come
// from the tracker, for the graph itself has no such edge.
func (g *Graph) problems(ix *adjacency) []Problem {
	var list []Problem
	for _, members := range g.Cycles {
		list = append(list, Problem{ProblemCycle, members, fmt.Sprintf("%s feed one another in a cycle", join(briefs(members)))})
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		ins, outs := len(ix.in[i]), len(ix.out[i])
		add := func(kind ProblemKind, format string) {
			list = append(list, Problem{kind, []string{n.ID}, fmt.Sprintf(format, brief(n.Title()))})
		}
		switch {
		case n.Health == HealthUnknown && n.Kind == KindUnknown:
			add(ProblemUnregistered, "%s is named by others but is not registered")
		case n.Kind == KindSource && ins > 0:
			add(ProblemSourceWithInput, "%s is a source, yet something feeds it")
		case n.Kind == KindSink && outs > 0:
			add(ProblemSinkWithOutput, "%s is a sink, yet it feeds something")
		case n.Kind == KindProcessor && ins == 0 && outs == 0:
			add(ProblemOrphan, "%s has neither an upstream nor a downstream")
		case (n.Kind == KindProcessor || n.Kind == KindSink) && ins == 0:
			add(ProblemOrphan, "%s has no upstream")
		case n.Kind == KindProcessor && outs == 0:
			add(ProblemOrphan, "%s has no downstream")
		}
	}
	for _, p := range g.Problems {
		if p.Kind == ProblemEndpoint {
			p.Text, p.Nodes = text(p.Text), set(slices.Clone(p.Nodes))
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b Problem) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Text, b.Text))
	})
	return list
}

func briefs(names []string) []string {
	list := make([]string, 0, len(names))
	for i, name := range names {
		if i == 8 {
			return append(list, fmt.Sprintf("%d more", len(names)-i))
		}
		list = append(list, brief(name))
	}
	return list
}

// join writes "a", "a and b", "a, b and c".
func join(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
