package topology

import (
	"cmp"
	"fmt"
	"slices"
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
	// HoldsUp lists, by id, every node that waits for it, directly or through
	// others, whether or not the blocked share is measured.
	HoldsUp []string `json:"holds_up,omitempty"`
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
// pipeline whose edges are not measured.
func (g *Graph) findBottleneck(ix *indexed) *Bottleneck {
	best, bestScore := -1, 0.0
	for n := range g.Nodes {
		blocks := 0.0
		for _, e := range ix.In.Of(n) {
			blocks = max(blocks, g.Edges[e].Blocked)
		}
		if g.Nodes[n].Health.Gone() || !g.saturated(n) && blocks < BlockedFrom {
			continue
		}
		heldUp := slices.ContainsFunc(ix.Out.Of(n), func(e int) bool { return g.holdsUp(ix, e) })
		// In a cycle everything may hold everything up; its most loaded node is
		// then named.
		if heldUp && !g.Nodes[n].Cyclic {
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
	b := &Bottleneck{Node: n.ID, Load: n.Load, HoldsUp: g.heldUpBy(ix, best)}
	for _, e := range ix.In.Of(best) {
		if g.Edges[e].Blocked >= BlockedFrom {
			b.Blocks = append(b.Blocks, Blocked{g.Edges[e].From, g.Edges[e].Blocked})
		}
	}
	slices.SortStableFunc(b.Blocks, func(a, b Blocked) int { return cmp.Compare(b.Share, a.Share) })
	b.Sentence = sentence(g, ix, n, b.Blocks)
	return b
}

func (g *Graph) saturated(n int) bool {
	return !g.Nodes[n].Health.Gone() && g.Nodes[n].Load >= g.Pipeline.Activate
}

// holdsUp says whether an edge's consumer holds its producer up: the edge is
// blocked, or both ends are saturated.
func (g *Graph) holdsUp(ix *indexed, e int) bool {
	from, to := ix.From[e], ix.To[e]
	return from != to && (g.Edges[e].Blocked >= BlockedFrom || g.saturated(from) && g.saturated(to))
}

// heldUpBy returns the ids of what waits for a node, in order.
func (g *Graph) heldUpBy(ix *indexed, root int) (ids []string) {
	seen := map[int]bool{root: true}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		for _, e := range ix.In.Of(queue[0]) {
			if from := ix.From[e]; !seen[from] && g.holdsUp(ix, e) {
				seen[from] = true
				queue, ids = append(queue, from), append(ids, g.Nodes[from].ID)
			}
		}
	}
	slices.Sort(ids)
	return ids
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
