package page

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
)

// What comes into a component is what it says, or what its edges bring where it
// says nothing; nobody's guess is 0.
func TestTheTableShowsWhatComesIn(t *testing.T) {
	g := &topology.Graph{
		Nodes: []topology.Node{
			{ID: "a", Kind: topology.KindSource},
			{ID: "b", Kind: topology.KindSource},
			{ID: "c", Kind: topology.KindProcessor},
			{ID: "d", Kind: topology.KindSink, Status: topology.Status{InRate: 7}},
		},
		Edges: []topology.Edge{
			{From: "a", To: "c", State: topology.StateConnected, Throughput: 30},
			{From: "b", To: "c", State: topology.StateConnected, Throughput: 12},
			{From: "c", To: "d", State: topology.StateConnected, Throughput: 40},
		},
	}
	g = g.Normalize()
	v := newView(g, nil)
	at := -1
	for i, name := range v.NodeHead {
		if name == "In" {
			at = i
		}
	}
	got := map[string]string{}
	for _, row := range v.NodeRows {
		got[row.Cells[0].Text] = row.Cells[at].Text
	}
	require.Equal(t, map[string]string{"a": "–", "b": "–", "c": "42/s", "d": "7/s"}, got)
}
