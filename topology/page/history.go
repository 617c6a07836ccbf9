package page

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/topology"
)

// history keeps the last samples, so that one can see what happened just
// before. It is bounded in number, in age and in bytes: each moment is kept
// compressed, the loads of each node as numbers.
type history struct {
	size    int           // how many moments
	age     time.Duration // of the oldest
	room    int           // how many bytes of them
	bytes   int           // that they take
	moments []moment      // the newest last
	loads   map[string]*loads
	added   int // how many moments in all
}

// historyBytes are enough for 800 moments of two hundred nodes, or 17 of ten
// thousand: see BenchmarkSample.
const historyBytes = 8 << 20

func newHistory(size, room int, age time.Duration) history {
	return history{size: size, room: room, age: age, loads: map[string]*loads{}}
}

// A moment is one sample: what the timeline draws, and the rest compressed.
type moment struct {
	at     time.Time
	load   float64
	active bool
	packed []byte
}

// loads are a node's loads, the newest last. They are kept beside the compressed
// moments because every frame draws them all.
type loads struct {
	list  []float32
	added int // with the last one
}

// add appends a graph that was packed, and drops the oldest moments until number,
// bytes and age are within bounds again. The newest always stays, however large. A
// node that has left loses its loads at once: the past that is shown later has
// none of it, and no list outgrows the nodes that exist.
func (h *history) add(g *topology.Graph, packed []byte) {
	h.moments = append(h.moments, moment{g.Time, g.Pipeline.Load, g.Pipeline.Active, packed})
	h.bytes += len(packed)
	h.added++
	old := 0
	for last := len(h.moments) - 1; old < last && (last+1-old > h.size || h.bytes > h.room ||
		g.Time.Sub(h.moments[old].at) > h.age); old++ {
		h.bytes -= len(h.moments[old].packed)
	}
	h.moments = slices.Delete(h.moments, 0, old)
	for i := range g.Nodes {
		n := &g.Nodes[i]
		load := float32(n.Load)
		if n.Health.Gone() {
			load = 0
		}
		l := h.loads[n.ID]
		if l == nil {
			l = &loads{}
			h.loads[n.ID] = l
		}
		list := append(l.list, load)
		l.list, l.added = slices.Delete(list, 0, max(len(list)-len(h.moments), 0)), h.added
	}
	for id, l := range h.loads {
		if l.added != h.added {
			delete(h.loads, id)
		}
	}
}

// find returns the newest moment that is not after a time: its place, or -1.
func (h *history) find(t time.Time) int {
	i, found := slices.BinarySearchFunc(h.moments, t, func(m moment, t time.Time) int { return m.at.Compare(t) })
	if found {
		return i
	}
	return i - 1
}

// sparks returns copies of the loads that led to a moment, for each node: the
// caller draws them without the lock. A node that came later than the moment has
// none.
func (h *history) sparks(place int) map[string][]float32 {
	after := len(h.moments) - 1 - place
	m := make(map[string][]float32, len(h.loads))
	for id, l := range h.loads {
		list := l.list[:max(len(l.list)-after, 0)]
		m[id] = append([]float32{}, list[max(len(list)-sparkSamples, 0):]...)
	}
	return m
}

// A packer compresses graphs, one after another: what it needs for that is a
// megabyte.
type packer struct {
	flate *flate.Writer
	out   bytes.Buffer
}

// shown is as exact as a time of the past has to be: to the nanosecond, times
// would be two thirds of what is kept of a large graph.
const shown = 100 * time.Millisecond

// pack writes the graph as one JSON value, and then each of its nodes and edges:
// a large one would be several megabytes of text in one piece.
func (p *packer) pack(g *topology.Graph) []byte {
	p.out.Reset()
	var err error
	if p.flate == nil {
		p.flate, err = flate.NewWriter(&p.out, flate.DefaultCompression)
	} else {
		p.flate.Reset(&p.out)
	}
	if err != nil {
		panic("page: pack: " + err.Error()) // no such level
	}
	to := json.NewEncoder(p.flate)
	put := func(v any) {
		if err := to.Encode(v); err != nil { // a normalized graph always marshals, and a buffer never fails
			panic("page: pack: " + err.Error())
		}
	}
	whole := *g
	whole.Nodes, whole.Edges = nil, nil
	put(packed{&whole, len(g.Nodes), len(g.Edges)})
	var n topology.Node
	for i := range g.Nodes {
		n = g.Nodes[i]
		n.RegisteredAt, n.LastHeartbeat = n.RegisteredAt.Truncate(time.Second), n.LastHeartbeat.Truncate(shown)
		put(&n)
	}
	var e topology.Edge
	for i := range g.Edges {
		e = g.Edges[i]
		e.LastConnected = e.LastConnected.Truncate(shown)
		put(&e)
	}
	if err := p.flate.Close(); err != nil {
		panic("page: pack: " + err.Error())
	}
	return bytes.Clone(p.out.Bytes())
}

// packed is what a packed graph begins with: all but its nodes and edges, and how
// many of those follow.
type packed struct {
	Graph        *topology.Graph
	Nodes, Edges int
}

// unpack reads what pack wrote. Times come back rounded, everything else as it was.
func unpack(b []byte) (*topology.Graph, error) {
	from := json.NewDecoder(flate.NewReader(bytes.NewReader(b)))
	head := packed{Graph: &topology.Graph{}}
	if err := from.Decode(&head); err != nil {
		return nil, err
	}
	g := head.Graph
	g.Nodes, g.Edges = make([]topology.Node, head.Nodes), make([]topology.Edge, head.Edges)
	for i := range g.Nodes {
		if err := from.Decode(&g.Nodes[i]); err != nil {
			return nil, err
		}
	}
	for i := range g.Edges {
		if err := from.Decode(&g.Edges[i]); err != nil {
			return nil, err
		}
	}
	return g.Normalize(), nil
}
