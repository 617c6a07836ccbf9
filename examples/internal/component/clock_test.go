package component

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/flowcontrol"
)

func TestFractionClockCountsTheTimeBelowOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c fractionClock
		requireClock := func(fraction float64, throttled time.Duration) {
			t.Helper()
			f, d := c.fraction()
			require.InDelta(t, fraction, f, 1e-9)
			require.Equal(t, throttled, d)
		}
		requireClock(1, 0)
		time.Sleep(time.Second)
		c.SetFraction(0.5)
		time.Sleep(2 * time.Second)
		requireClock(0.5, 2*time.Second)
		c.SetFraction(0.2)
		time.Sleep(time.Second)
		c.SetFraction(1)
		time.Sleep(time.Hour)
		requireClock(1, 3*time.Second)
		c.SetFraction(0)
		time.Sleep(time.Second)
		requireClock(0, 4*time.Second)
	})
}

func TestPeakLoadStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 4}})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var peak peakLoad
		go peak.watch(ctx, gate)
		permit, err := gate.TryAcquire(ctx, flowcontrol.Cost{Messages: 3})
		require.NoError(t, err)
		time.Sleep(2 * peakInterval)
		permit.Release(flowcontrol.Success)
		time.Sleep(2 * peakInterval)
		require.Equal(t, 0.75, peak.load())
		stop()
		synctest.Wait()
	})
}

// The edge shows how much of the time the sender had to wait for us.
func TestUpstreamEdge(t *testing.T) {
	u := &upstream{id: "source", endpoint: "localhost:8815"}
	at := time.Unix(100, 0)
	edge := u.look(0, 0, 0, 0, at)
	require.Equal(t, "source", edge.From)
	require.False(t, edge.State.Up())
	require.Zero(t, edge.Blocked)
	edge = u.look(1000, 64000, 1, 250*time.Millisecond, at.Add(time.Second))
	require.True(t, edge.State.Up())
	require.Equal(t, at.Add(time.Second), edge.LastConnected)
	require.Equal(t, 0.25, edge.Blocked)
	require.Equal(t, 1000.0, edge.Throughput)
	require.Equal(t, 64000.0, edge.ByteRate)
	edge = u.look(1000, 64000, 2, 5*time.Second, at.Add(2*time.Second))
	require.Equal(t, 1.0, edge.Blocked, "never above 1")
	edge = u.look(1000, 64000, 0, 5*time.Second, at.Add(2*time.Second+1))
	require.False(t, edge.State.Up())
	require.Equal(t, at.Add(2*time.Second), edge.LastConnected)
	require.Zero(t, edge.Blocked)
	require.Zero(t, edge.Throughput)
}
