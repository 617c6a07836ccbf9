package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

// Callers that ask for the graph at the same time get the same one.
func TestAGraphIsKeptForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{Decision: backpressure.Config{Learn: -1}})
		require.NoError(t, err)
		defer s.Close()
		report := func(inFlight int64) {
			require.NoError(t, s.take(&beat{id: "sink", metrics: map[string]float64{controlplane.MetricInFlight: float64(inFlight)}}))
		}
		require.NoError(t, s.register(t.Context(), controlplane.Component{ID: "sink", MaxInFlight: 100}, 0))
		report(10)
		g := s.Topology()
		require.Equal(t, 0.1, g.Nodes[0].Load)
		report(50)
		require.Same(t, g, s.Topology())
		time.Sleep(graphAge + time.Millisecond)
		require.Equal(t, 0.5, s.Topology().Nodes[0].Load)

		require.NoError(t, s.register(t.Context(), controlplane.Component{ID: "another"}, 0))
		time.Sleep(graphAge + time.Millisecond)
		require.Len(t, s.Topology().Nodes, 2)
	})
}
