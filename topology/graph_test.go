package topology_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
)

func TestCyclesAreFlaggedWithTheirMembers(t *testing.T) {
	g := (&topology.Graph{Edges: []topology.Edge{
		{From: "a", To: "b"},
		{From: "b", To: "c"},
		{From: "c", To: "b"},
		{From: "c", To: "d"},
		{From: "e", To: "e"},
	}}).Normalize()
	require.Equal(t, [][]string{{"b", "c"}, {"e"}}, g.Cycles)
	require.Equal(t, topology.ProblemCycle, g.Problems[0].Kind)
	require.Equal(t, "b and c feed one another in a cycle", g.Problems[0].Text)
	for _, n := range g.Nodes {
		require.Equal(t, n.ID == "b" || n.ID == "c" || n.ID == "e", n.Cyclic, n.ID)
	}
}

func TestTheBottleneckIsTheRootNotWhatItBlocks(t *testing.T) {
	node := func(id string, load float64) topology.Node {
		return topology.Node{ID: id, Status: topology.Status{Health: topology.HealthHealthy, Load: load}}
	}
	for name, c := range map[string]struct {
		graph topology.Graph
		want  string
	}{
		"blocked edges lead to it": {topology.Graph{
			Nodes: []topology.Node{node("src", 0.95), node("proc", 0.85), node("sink", 0.9)},
			Edges: []topology.Edge{{From: "src", To: "proc", Blocked: 0.4}, {From: "proc", To: "sink", Blocked: 0.61}},
		}, "sink is the bottleneck: 90\u00a0% of its limit, blocks proc 61\u00a0% of the time"},
		"nobody measures the edges": {topology.Graph{
			Nodes: []topology.Node{node("src", 0.99), node("proc", 0.9), node("sink", 0.3)},
			Edges: []topology.Edge{{From: "src", To: "proc"}, {From: "proc", To: "sink"}},
		}, "proc is the bottleneck: 90\u00a0% of its limit"},
		"it blocks before its load shows": {topology.Graph{
			Nodes: []topology.Node{node("src", 0.5), node("sink", 0.2)},
			Edges: []topology.Edge{{From: "src", To: "sink", Blocked: 0.5}},
		}, "sink is the bottleneck: 20\u00a0% of its limit, blocks src 50\u00a0% of the time"},
		"all is well": {topology.Graph{
			Nodes: []topology.Node{node("src", 0.5), node("sink", 0.7)},
			Edges: []topology.Edge{{From: "src", To: "sink", Blocked: 0.05}},
		}, ""},
		"a cycle": {topology.Graph{
			Nodes: []topology.Node{node("a", 0.85), node("b", 0.95)},
			Edges: []topology.Edge{{From: "a", To: "b"}, {From: "b", To: "a"}},
		}, "b is the bottleneck: 95\u00a0% of its limit"},
	} {
		t.Run(name, func(t *testing.T) {
			g := c.graph.Normalize()
			if c.want == "" {
				require.Nil(t, g.Bottleneck)
				return
			}
			require.Equal(t, c.want, g.Bottleneck.Sentence)
			n, _ := g.Node(g.Bottleneck.Node)
			require.True(t, n.Cause)
		})
	}
}

func TestJSONRoundTrip(t *testing.T) {
	g := (&topology.Graph{
		Pipeline: topology.Pipeline{Throughput: math.NaN(), Load: math.Inf(1)},
		Nodes:    []topology.Node{{ID: "z"}, {ID: "a\xff", Upstreams: []string{"z"}}, {ID: "z", Name: "second"}},
	}).Normalize()
	var b bytes.Buffer
	require.NoError(t, g.WriteJSON(&b))
	back, err := topology.ReadJSON(&b)
	require.NoError(t, err)
	require.Equal(t, g, back)
	require.Len(t, g.Nodes, 2)

	_, err = topology.ReadJSON(bytes.NewBufferString(`{"schema":2}`))
	require.ErrorIs(t, err, topology.ErrInvalid)

	var empty bytes.Buffer
	require.NoError(t, (&topology.Graph{}).WriteJSON(&empty))
	require.Contains(t, empty.String(), `"nodes":[],"edges":[]`)
}

// Many nodes with the same problem are one: nobody reads a thousand lines.
func TestManyMisfitsAreOneProblem(t *testing.T) {
	alone := func(n int) *topology.Graph {
		g := &topology.Graph{}
		for i := range n {
			g.Nodes = append(g.Nodes, topology.Node{ID: fmt.Sprintf("p%02d", i), Kind: topology.KindProcessor})
		}
		return g.Normalize()
	}
	few := alone(8)
	require.Len(t, few.Problems, 8)
	require.Equal(t, "p00 has neither an upstream nor a downstream", few.Problems[0].Text)
	many := alone(20)
	require.Len(t, many.Problems, 1)
	require.Equal(t, "p00, p01, p02, p03, p04, p05, p06, p07 and 12 more have neither an upstream nor a downstream",
		many.Problems[0].Text)
	require.Len(t, many.Problems[0].Nodes, 20)
}

// A guess that leads everywhere helps nobody, and may be a million edges.
func TestGuessedEdgesAreBounded(t *testing.T) {
	g := &topology.Graph{}
	for i := range 400 {
		g.Nodes = append(g.Nodes,
			topology.Node{ID: fmt.Sprintf("s%03d", i), Kind: topology.KindSource, OutputEventTypes: []string{"ledger"}},
			topology.Node{ID: fmt.Sprintf("t%03d", i), Kind: topology.KindSink, InputEventTypes: []string{"ledger"}})
	}
	once := g.Normalize()
	require.Len(t, once.Edges, 8*800)
	require.Contains(t, once.Problems, topology.Problem{
		Kind: topology.ProblemMatches,
		Text: "Event types suggest more edges than are drawn: let the components name their upstreams",
	})
	require.Equal(t, once, once.Normalize())
}
