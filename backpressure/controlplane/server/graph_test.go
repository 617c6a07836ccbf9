package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

// Callers that ask for the graph at the same time get the same one.
func TestAGraphIsKeptForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Learn: -1}})
		c := newCaller(t, p)
		report := func(inFlight float64) {
			require.NoError(t, c.beat("sink", map[string]float64{
				controlplane.MetricInFlight: inFlight, controlplane.MetricMaxInFlight: 100,
			}))
		}
		require.NoError(t, c.register("sink"))
		report(10)
		g := p.server.Topology()
		require.Equal(t, 0.1, g.Nodes[0].Load)
		report(50)
		require.Same(t, g, p.server.Topology())
		time.Sleep(time.Second)
		require.Equal(t, 0.5, p.server.Topology().Nodes[0].Load)

		require.NoError(t, c.register("another"))
		time.Sleep(time.Second)
		require.Len(t, p.server.Topology().Nodes, 2)
	})
}
