package page

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
)

// big is a graph of layers of width nodes, each fed by two of the layer before.
func big(nodes, width int) *topology.Graph {
	g := &topology.Graph{}
	for i := range nodes {
		n := topology.Node{
			ID: fmt.Sprintf("node-%03d", i), Kind: topology.KindProcessor,
			Status: topology.Status{Health: topology.HealthHealthy},
		}
		g.Nodes = append(g.Nodes, n)
		if i >= width {
			for _, back := range []int{width, width - 1 + i%3} {
				if i-back >= 0 {
					g.Edges = append(g.Edges, topology.Edge{From: g.Nodes[i-back].ID, To: n.ID})
				}
			}
		}
	}
	return g
}

func TestLayoutIsTheSameUnderShuffledInput(t *testing.T) {
	for _, cyclic := range []bool{false, true} {
		g := big(60, 7)
		if cyclic {
			g.Edges = append(g.Edges, topology.Edge{From: "node-050", To: "node-001"},
				topology.Edge{From: "node-033", To: "node-033"})
		}
		want := newLayout(g.Normalize())
		for range 5 {
			rand.Shuffle(len(g.Nodes), func(i, j int) { g.Nodes[i], g.Nodes[j] = g.Nodes[j], g.Nodes[i] })
			rand.Shuffle(len(g.Edges), func(i, j int) { g.Edges[i], g.Edges[j] = g.Edges[j], g.Edges[i] })
			for i := range g.Nodes {
				g.Nodes[i].Load = rand.Float64() // figures move nothing
			}
			require.Equal(t, want, newLayout(g.Normalize()))
		}
	}
}

func TestLayoutLeadsForward(t *testing.T) {
	g := big(200, 11).Normalize()
	l := newLayout(g)
	ix := numbered(g)
	for e := range g.Edges {
		require.False(t, l.back[e])
		require.Less(t, l.layer[ix.From[e]], l.layer[ix.To[e]])
	}
	seen := 0
	for at, layer := range l.layers {
		for i, s := range layer {
			if s.node >= 0 {
				seen++
				require.Equal(t, at, l.layer[s.node])
				require.Equal(t, i, l.order[s.node])
			}
		}
	}
	require.Equal(t, 200, seen)
}

func TestLayoutOfOddGraphs(t *testing.T) {
	require.Empty(t, newLayout((&topology.Graph{}).Normalize()).layers)
	l := newLayout((&topology.Graph{Nodes: []topology.Node{
		{ID: "cp", Kind: topology.KindControl},
		{ID: "a"},
	}}).Normalize())
	require.Equal(t, []int{0, -1}, l.layer)
	l = newLayout((&topology.Graph{Edges: []topology.Edge{
		{From: "a", To: "a"},
		{From: "a", To: "b"},
		{From: "b", To: "a"},
	}}).Normalize())
	require.Equal(t, []int{0, 1}, l.layer)
	newLayout(big(500, 1).Normalize())
}

// BenchmarkLayout proves "200 nodes under 2 ms".
func BenchmarkLayout(b *testing.B) {
	for _, nodes := range []int{5, 50, 200, 1000} {
		b.Run(fmt.Sprint(nodes), func(b *testing.B) {
			g := big(nodes, 11).Normalize()
			b.ReportAllocs()
			for b.Loop() {
				newLayout(g)
			}
		})
	}
}

// TestAFrameHasTheViewsValues: what a frame leaves out is markup alone.
func TestAFrameHasTheViewsValues(t *testing.T) {
	for _, nodes := range []int{0, 1, 5, 200} {
		g := big(nodes, 11).Normalize()
		sparks := map[string][]float32{}
		for i := range g.Nodes {
			sparks[g.Nodes[i].ID] = []float32{0.1, 0.5}
		}
		require.Equal(t, newView(g, sparks).set, newValues(g, sparks))
	}
}

// However large the pipeline, the past of it is not allowed to grow with it.
func TestHistoryIsBoundedInBytes(t *testing.T) {
	const room = 1 << 16
	g := big(100, 40)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range g.Nodes {
		g.Nodes[i].Endpoint = strconv.FormatUint(r.Uint64(), 36) + strconv.FormatUint(r.Uint64(), 36)
	}
	g = g.Normalize()
	h := newHistory(3600, room, time.Hour)
	var p packer
	for range 100 {
		h.add(g, p.pack(g))
		kept := 0
		for _, m := range h.moments {
			kept += len(m.packed)
		}
		require.LessOrEqual(t, kept, room)
		require.Equal(t, kept, h.bytes)
	}
	require.InDelta(t, 15, len(h.moments), 10)
	for _, loads := range h.loads {
		require.Len(t, loads.list, len(h.moments))
	}
	require.NotNil(t, h.sparks(0))
}

// Nor is it older than asked for, where the page rests between its samples.
func TestHistoryIsBoundedInAge(t *testing.T) {
	h, began := newHistory(600, historyBytes, 10*time.Minute), time.Unix(1000, 0)
	for i := range 100 {
		h.add(&topology.Graph{Time: began.Add(time.Duration(i) * 20 * time.Second), Nodes: []topology.Node{{ID: "a"}}}, nil)
	}
	require.Len(t, h.moments, 31)
	require.Equal(t, 10*time.Minute, h.moments[30].at.Sub(h.moments[0].at))
	require.Len(t, h.loads["a"].list, 31)
	h.add(&topology.Graph{Time: began.Add(time.Hour), Nodes: []topology.Node{{ID: "b"}}}, nil)
	require.Len(t, h.moments, 1, "the newest stays")
	require.NotContains(t, h.loads, "a")
}

func TestPackedGraphComesBack(t *testing.T) {
	var p packer
	for _, g := range []*topology.Graph{{}, {
		Name: "p", Alerts: []topology.Alert{{Name: "a"}},
		Nodes: []topology.Node{{ID: "\xff", Metadata: map[string]string{"k": "v"}}},
	}, big(60, 7)} {
		g = g.Normalize()
		back, err := unpack(p.pack(g))
		require.NoError(t, err)
		require.Equal(t, g, back)
	}
	at := time.Unix(1_700_000_000, 987_654_321).UTC()
	g := (&topology.Graph{Nodes: []topology.Node{{
		ID: "a", RegisteredAt: at,
		Status: topology.Status{LastHeartbeat: at},
	}}}).Normalize()
	back, err := unpack(p.pack(g))
	require.NoError(t, err)
	require.Equal(t, at.Truncate(time.Second), back.Nodes[0].RegisteredAt)
	require.Equal(t, at.Truncate(shown), back.Nodes[0].LastHeartbeat)
	require.Equal(t, at, g.Nodes[0].RegisteredAt, "the graph stays as it is")

	packed := p.pack(big(6, 2).Normalize())
	for n := range len(packed) / 2 {
		_, err := unpack(packed[:n])
		require.Error(t, err)
	}
}

// BenchmarkSample says what the page costs: once an interval, and once a frame
// while a browser watches.
func BenchmarkSample(b *testing.B) {
	for _, nodes := range []int{5, 200, 10_000} {
		g := big(nodes, 11)
		for i := range g.Nodes {
			n := &g.Nodes[i]
			n.Load, n.InFlight, n.MaxInFlight, n.OutRate, n.Endpoint = rand.Float64(), rand.Int64N(64), 64, rand.Float64()*1e4,
				"localhost:8815"
			n.Version, n.InputEventTypes = "1.4.0", []string{"ledgers"}
			n.RegisteredAt, n.LastHeartbeat = time.Now().Add(-rand.N(time.Hour)), time.Now().Add(-rand.N(time.Second))
		}
		g = g.Normalize()
		b.Run(fmt.Sprintf("keep/%d", nodes), func(b *testing.B) {
			h := newHistory(600, historyBytes, time.Hour)
			var p packer
			for b.Loop() {
				h.add(g, p.pack(g))
			}
			b.ReportMetric(float64(len(h.moments[0].packed)), "B/kept")
		})
		b.Run(fmt.Sprintf("frame/%d", nodes), func(b *testing.B) {
			var s *sample
			for b.Loop() {
				s = &sample{graph: g, sparks: map[string][]float32{}}
				s.frame()
			}
			b.ReportMetric(float64(len(s.json)), "B/frame")
		})
	}
}

// Pipelines that have nothing to do with each other lie one below the other, in
// both drawings and in the tables, and what has no edge lies below them all.
func TestEachPipelineHasABand(t *testing.T) {
	var g topology.Graph
	pipelines := map[string]int{"x": 2, "b": 3, "c": 4}
	for name, stages := range pipelines {
		for i := range stages {
			g.Nodes = append(g.Nodes, topology.Node{ID: fmt.Sprint(name, i)})
			if i > 0 {
				g.Edges = append(g.Edges, topology.Edge{From: fmt.Sprint(name, i-1), To: fmt.Sprint(name, i)})
			}
		}
	}
	g.Nodes = append(g.Nodes, topology.Node{ID: "a-alone"}, topology.Node{ID: "z-alone"})
	n := g.Normalize()
	for _, narrow := range []bool{false, true} {
		s := newScene(n, narrow)
		low := 0.0
		for _, name := range []string{"b", "c", "x", "alone"} {
			top, bottom := math.Inf(1), 0.0
			for i := range n.Nodes {
				if id := n.Nodes[i].ID; id[:1] == name || name == "alone" && id[1:] == "-alone" {
					top, bottom = min(top, s.cards[i].y), max(bottom, s.cards[i].y+s.cards[i].h)
				}
			}
			require.Greater(t, top, low, "%s, narrow %v", name, narrow)
			low = bottom
		}
		require.Greater(t, s.height, low)
	}
	var ids []string
	for _, i := range byStage(n) {
		ids = append(ids, n.Nodes[i].ID)
	}
	require.Equal(t, []string{"b0", "b1", "b2", "c0", "c1", "c2", "c3", "x0", "x1", "a-alone", "z-alone"}, ids)
}
