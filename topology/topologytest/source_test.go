package topologytest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/topologytest"
)

func TestSourcesOfOurs(t *testing.T) {
	script := topologytest.NewScript()
	for _, scene := range []topologytest.Scene{
		topologytest.Calm, topologytest.Busy, topologytest.Throttled,
		topologytest.Recovering, topologytest.Killed,
	} {
		script.Play(scene)
		topologytest.RunSource(t, script)
	}
	tracker := topology.NewTracker(topology.TrackerConfig{})
	topologytest.RunSource(t, tracker)
	require.NoError(t, tracker.Register(topology.Node{ID: "a", Upstreams: []string{"b"}}))
	topologytest.RunSource(t, tracker)
}

func TestTheScriptTellsTheStory(t *testing.T) {
	script := topologytest.NewScript()
	require.Nil(t, script.Topology().Bottleneck)
	script.Play(topologytest.Throttled)
	g := script.Topology()
	require.Equal(t, "arrow-analytics-sink", g.Bottleneck.Node)
	require.True(t, g.Pipeline.Active)
	script.Play(topologytest.Killed)
	n, ok := script.Topology().Node("ttp-arrow-processor")
	require.True(t, ok)
	require.Equal(t, topology.HealthDown, n.Health)
}
