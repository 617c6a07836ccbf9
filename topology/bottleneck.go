package topology

import (
	"fmt"
	"strings"

	"github.com/withobsrvr/sluice/topology/internal/text"
)

// Bottleneck names the node that holds the pipeline up: the most downstream
// one that is saturated, never the upstreams that it blocks.
type Bottleneck struct {
	Node string `json:"node"`
	// Load is the node's load.
	Load float64 `json:"load"`
	// Blocks lists the producers that wait for it, the most blocked first.
	Blocks []Blocked `json:"blocks,omitempty"`
	// Sentence says it in words.
	Sentence string `json:"sentence"`
}

// Blocked is a producer and the share of time that it is held up.
type Blocked struct {
	Node  string  `json:"node"`
	Share float64 `json:"share"`
}

// BlockedFrom is the share of time, 0..1, from which an edge counts as blocked:
// Flink's border between its levels OK and LOW.
const BlockedFrom = 0.10

// findBottleneck follows blocked edges downstream to the node that blocks and
// is not itself blocked. The saturated nodes are starting points too, for a
// pipeline whose edges nobody measures.
func (g *Graph) findBottleneck(ix *indexed) *Bottleneck {
	saturated := func(n int) bool {
		return !g.Nodes[n].Health.Gone() && g.Nodes[n].Load >= g.Pipeline.Activate
	}
	// A node is held up where an edge out of it is blocked, or leads to a
	// saturated node while it is saturated itself.
	heldUp := func(n int) bool {
		for _, e := range ix.Out.Of(n) {
			if to := ix.To[e]; to != n && (g.Edges[e].Blocked >= BlockedFrom || saturated(n) && saturated(to)) {
				return true
			}
		}
		return false
	}
	best, bestScore := -1, 0.0
	for n := range g.Nodes {
		blocks := 0.0
		for _, e := range ix.In.Of(n) {
			blocks = max(blocks, g.Edges[e].Blocked)
		}
		if g.Nodes[n].Health.Gone() || !saturated(n) && blocks < BlockedFrom {
			continue
		}
		// In a cycle everything may hold everything up; its most loaded node is
		// then named.
		if heldUp(n) && !g.Nodes[n].Cyclic {
			continue
		}
		if score := g.Nodes[n].Load + blocks; score > bestScore {
			best, bestScore = n, score
		}
	}
	if best < 0 {
		return nil
	}
	n := &g.Nodes[best]
	b := &Bottleneck{Node: n.ID, Load: n.Load}
	for _, e := range ix.In.Of(best) {
		if g.Edges[e].Blocked >= BlockedFrom {
			b.Blocks = append(b.Blocks, Blocked{g.Edges[e].From, g.Edges[e].Blocked})
		}
	}
	sortBlocked(b.Blocks)
	b.Sentence = sentence(g, ix, n, b.Blocks)
	return b
}

func sortBlocked(list []Blocked) {
	for i := 1; i < len(list); i++ { // a handful, and already sorted by id
		for j := i; j > 0 && list[j].Share > list[j-1].Share; j-- {
			list[j], list[j-1] = list[j-1], list[j]
		}
	}
}

func sentence(g *Graph, ix *indexed, n *Node, blocks []Blocked) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is the bottleneck: %s of its limit", text.Brief(n.Title()), text.Percent(n.Load))
	for i, by := range blocks {
		if i == 3 {
			fmt.Fprintf(&b, " and %d more", len(blocks)-i)
			break
		}
		switch i {
		case 0:
			b.WriteString(", blocks ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %s of the time", text.Brief(g.Nodes[ix.nodes[by.Node]].Title()), text.Percent(by.Share))
	}
	return b.String()
}
