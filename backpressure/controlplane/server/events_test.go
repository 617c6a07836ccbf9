package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

// TestEventsAreCounted as the sinks count them: what one has counted stays when
// it leaves, a new process begins anew, and what goes on counts nothing twice.
func TestEventsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		require.NoError(t, c.register("sink"))
		events := func(count float64, want uint64) {
			t.Helper()
			require.NoError(t, c.beat("sink", map[string]float64{controlplane.MetricEvents: count}))
			time.Sleep(time.Second)
			require.Equal(t, want, p.server.Topology().Pipeline.Events)
		}
		events(100, 100)
		events(100, 100)
		events(28860, 28860)
		require.NoError(t, c.register("sink")) // again, by the same process as far as anybody can tell
		events(28861, 28861)
		require.NoError(t, c.unregister("sink"))
		time.Sleep(time.Second)
		require.Equal(t, uint64(28861), p.server.Topology().Pipeline.Events)
		require.NoError(t, c.register("sink"))
		events(10, 28871)
		events(4, 28875) // a restart that nobody saw
		require.NoError(t, c.beat("sink", map[string]float64{controlplane.MetricEvents: 1e300}))
		require.NoError(t, c.beat("sink", map[string]float64{controlplane.MetricEvents: -1}))
	})
}
