package page

import (
	"cmp"
	"slices"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/adjacency"
)

// layout is a layered drawing of a normalized graph (Sugiyama 1981): cycles are
// broken, nodes stand in layers by their longest way from a source, edges over
// more than one layer get a waypoint in each layer between, and sweeps by
// barycenter order the layers. Parts of the graph that have nothing to do with each
// other lie in bands, one below the other. It depends on ids and edges alone, never on
// figures or on the order of input, so nothing jumps while figures change.
type layout struct {
	layers [][]slot
	layer  []int // of each node, -1: not drawn (the control plane)
	order  []int // of each node within its layer
	band   []int // of each node, counted from the top; what has no edge shares the last
	bands  int
	back   []bool
	via    [][]int // the order of each edge's waypoints in the layers between
}

// slot is a node's place in a layer (node >= 0) or a waypoint of an edge.
type slot struct{ node, edge int }

// sweeps is how often the layers are ordered, forward and back in turn. The order
// is a heuristic: the least number of crossings is NP-hard to find.
const sweeps = 4

func newLayout(g *topology.Graph) *layout {
	ix := numbered(g)
	l := &layout{
		layer: make([]int, len(g.Nodes)), order: make([]int, len(g.Nodes)),
		back: make([]bool, len(g.Edges)), via: make([][]int, len(g.Edges)),
	}
	l.breakCycles(g, ix)
	l.assignLayers(g, ix)
	l.assignBands(g, ix)
	l.fillLayers(g, ix)
	return l
}

// assignBands gives each connected part a band, in the order of the smallest ids.
func (l *layout) assignBands(g *topology.Graph, ix *adjacency.Graph) {
	l.band = make([]int, len(g.Nodes))
	for n := range l.band {
		l.band[n] = -1
	}
	drawn := func(e int) bool { return l.layer[ix.From[e]] >= 0 && l.layer[ix.To[e]] >= 0 }
	for root := range g.Nodes {
		if l.band[root] >= 0 || l.layer[root] < 0 {
			continue
		}
		next := []int{root}
		for len(next) > 0 {
			n := next[len(next)-1]
			next = next[:len(next)-1]
			for _, edges := range [][]int{ix.Out.Of(n), ix.In.Of(n)} {
				for _, e := range edges {
					for _, end := range []int{ix.From[e], ix.To[e]} {
						if drawn(e) && l.band[end] < 0 {
							l.band[end] = l.bands
							next = append(next, end)
						}
					}
				}
			}
		}
		if l.band[root] >= 0 {
			l.bands++
		}
	}
	alone := false
	for n, band := range l.band {
		if band < 0 {
			l.band[n] = l.bands
			alone = alone || l.layer[n] >= 0
		}
	}
	if alone {
		l.bands++
	}
}

func (l *layout) bandOf(ix *adjacency.Graph, s slot) int {
	if s.node >= 0 {
		return l.band[s.node]
	}
	return l.band[ix.From[s.edge]]
}

// breakCycles marks the edges that lead back to a node on the way that led to
// them, depth first from the sources, then from the smallest id. It keeps its own
// stack: a chain of ten thousand nodes would be as many nested calls.
func (l *layout) breakCycles(g *topology.Graph, ix *adjacency.Graph) {
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(g.Nodes))
	type call struct{ node, next int }
	var calls []call
	walk := func(root int) {
		if state[root] != fresh {
			return
		}
		state[root] = open
		calls = append(calls[:0], call{node: root})
		for len(calls) > 0 {
			c := &calls[len(calls)-1]
			if c.next == len(ix.Out.Of(c.node)) {
				state[c.node] = done
				calls = calls[:len(calls)-1]
				continue
			}
			e := ix.Out.Of(c.node)[c.next]
			c.next++
			switch to := ix.To[e]; state[to] {
			case fresh:
				state[to] = open
				calls = append(calls, call{node: to})
			case open:
				l.back[e] = true
			}
		}
	}
	for n := range g.Nodes {
		if g.Nodes[n].Kind == topology.KindSource {
			walk(n)
		}
	}
	for n := range g.Nodes {
		if len(ix.In.Of(n)) == 0 {
			walk(n)
		}
	}
	for n := range g.Nodes {
		walk(n)
	}
}

// assignLayers gives each node its longest way from a node without input, in
// topological order (A. B. Kahn, 1962) over the forward edges: each edge is looked at
// once. Nodes without input are moved afterwards, next to what they feed, so that
// a late joiner does not stand at the far left.
func (l *layout) assignLayers(g *topology.Graph, ix *adjacency.Graph) {
	waiting := make([]int, len(g.Nodes)) // forward edges in that are not done
	for e := range g.Edges {
		if !l.back[e] {
			waiting[ix.To[e]]++
		}
	}
	var ready []int
	for n, w := range waiting {
		if w == 0 {
			ready = append(ready, n)
		}
	}
	last := 0
	for len(ready) > 0 {
		n := ready[0]
		ready = ready[1:]
		last = max(last, l.layer[n])
		for _, e := range ix.Out.Of(n) {
			if l.back[e] {
				continue
			}
			to := ix.To[e]
			l.layer[to] = max(l.layer[to], l.layer[n]+1)
			if waiting[to]--; waiting[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	for n := range g.Nodes {
		if g.Nodes[n].Kind == topology.KindControl {
			l.layer[n] = -1
			continue
		}
		if len(ix.In.Of(n)) > 0 {
			continue
		}
		// What has no input goes where its kind belongs, or next to what it feeds.
		next := last + 1
		for _, e := range ix.Out.Of(n) {
			if !l.back[e] {
				next = min(next, l.layer[ix.To[e]])
			}
		}
		switch {
		case len(ix.Out.Of(n)) > 0 && g.Nodes[n].Kind != topology.KindSource:
			l.layer[n] = max(next-1, 0)
		case len(ix.Out.Of(n)) == 0 && g.Nodes[n].Kind == topology.KindSink:
			l.layer[n] = last
		case len(ix.Out.Of(n)) == 0 && g.Nodes[n].Kind == topology.KindProcessor:
			l.layer[n] = min(1, last)
		}
	}
}

// fillLayers puts nodes and waypoints into their layers and orders them. Nodes come
// in the order of their ids, which is where the first sweep starts from: the same
// graph gives the same drawing.
func (l *layout) fillLayers(g *topology.Graph, ix *adjacency.Graph) {
	last := -1
	for _, at := range l.layer {
		last = max(last, at)
	}
	l.layers = make([][]slot, last+1)
	for n, at := range l.layer {
		if at >= 0 {
			l.layers[at] = append(l.layers[at], slot{n, -1})
		}
	}
	for e := range g.Edges {
		from, to := l.ends(ix, e)
		if from < 0 || to < 0 {
			continue
		}
		for at := from + 1; at < to; at++ {
			l.layers[at] = append(l.layers[at], slot{-1, e})
		}
		l.via[e] = make([]int, max(to-from-1, 0))
	}
	l.renumber(ix, last)
	keys := make([]float64, 0, len(g.Nodes))
	for sweep := range sweeps {
		for i := range l.layers {
			at := i
			if sweep%2 == 1 {
				at = last - i
			}
			l.sortLayer(ix, at, sweep%2 == 0, keys)
		}
	}
}

// ends returns an edge's layers, the smaller first.
func (l *layout) ends(ix *adjacency.Graph, e int) (int, int) {
	from, to := l.layer[ix.From[e]], l.layer[ix.To[e]]
	return min(from, to), max(from, to)
}

// sortLayer orders a layer by band, and within one by the mean place of each slot's
// neighbours in the layer before (or after) it: the barycenter heuristic. Places count
// as shares of their layer, for layers differ in length. A slot without a neighbour
// there keeps its place. The sort is stable, so equal means do not swap at random.
func (l *layout) sortLayer(ix *adjacency.Graph, at int, forward bool, keys []float64) {
	layer := l.layers[at]
	keys = keys[:0]
	for i, s := range layer {
		sum, count := 0.0, 0
		look := func(e, node int) {
			neighbour := at - 1
			if !forward {
				neighbour = at + 1
			}
			if l.layer[node] < 0 || neighbour < 0 || neighbour >= len(l.layers) {
				return
			}
			if place, ok := l.place(ix, e, neighbour); ok {
				sum += (place + 0.5) / float64(len(l.layers[neighbour]))
				count++
			}
		}
		if s.node >= 0 {
			for _, e := range ix.In.Of(s.node) {
				look(e, ix.From[e])
			}
			for _, e := range ix.Out.Of(s.node) {
				look(e, ix.To[e])
			}
		} else {
			look(s.edge, ix.From[s.edge])
		}
		if count == 0 {
			sum, count = (float64(i)+0.5)/float64(len(layer)), 1
		}
		keys = append(keys, sum/float64(count))
	}
	places := make([]int, len(layer))
	for i := range places {
		places[i] = i
	}
	slices.SortStableFunc(places, func(a, b int) int {
		return cmp.Or(cmp.Compare(l.bandOf(ix, layer[a]), l.bandOf(ix, layer[b])), cmp.Compare(keys[a], keys[b]))
	})
	sorted := make([]slot, len(layer))
	for to, from := range places {
		sorted[to] = layer[from]
	}
	copy(layer, sorted)
	l.number(ix, at)
}

// place returns where an edge passes through a layer: at one of its ends or at a
// waypoint. It reports false where it does not.
func (l *layout) place(ix *adjacency.Graph, e, at int) (float64, bool) {
	low, high := l.ends(ix, e)
	switch from, to := ix.From[e], ix.To[e]; {
	case at < low || at > high || low == high:
		return 0, false
	case l.layer[from] == at:
		return float64(l.order[from]), true
	case l.layer[to] == at:
		return float64(l.order[to]), true
	default:
		return float64(l.via[e][at-low-1]), true
	}
}

func (l *layout) renumber(ix *adjacency.Graph, last int) {
	for at := range last + 1 {
		l.number(ix, at)
	}
}

// number writes the order of a layer back to its nodes and edges.
func (l *layout) number(ix *adjacency.Graph, at int) {
	for i, s := range l.layers[at] {
		if s.node >= 0 {
			l.order[s.node] = i
			continue
		}
		low, _ := l.ends(ix, s.edge)
		l.via[s.edge][at-low-1] = i
	}
}

// numbered returns the edges of a normalized graph by number.
func numbered(g *topology.Graph) *adjacency.Graph {
	at := make(map[string]int, len(g.Nodes))
	for i := range g.Nodes {
		at[g.Nodes[i].ID] = i
	}
	from, to := make([]int, len(g.Edges)), make([]int, len(g.Edges))
	for i := range g.Edges {
		from[i], to[i] = at[g.Edges[i].From], at[g.Edges[i].To]
	}
	ix := adjacency.New(len(g.Nodes), from, to)
	return &ix
}
