package backpressure_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
)

// held is a controller that holds a source at about two thirds, after ten seconds
// of reports every 100 ms.
func held(t *testing.T, tick time.Duration) *backpressure.Controller {
	c := newController(t, backpressure.Config{Tick: tick, TTL: -1})
	for load := int64(90); c.Fraction() > 0.681; {
		require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: load, MaxInFlight: 100}))
		time.Sleep(100 * time.Millisecond)
	}
	for range 100 {
		require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 80, MaxInFlight: 100}))
		time.Sleep(100 * time.Millisecond)
	}
	return c
}

// One report of 0.97 says that the load is 0.97 now. It does not say that it has
// been so since the last one.
func TestAGapIsNotIntegrated(t *testing.T) {
	for name, tick := range map[string]time.Duration{"with ticks": 0, "reports alone": -1} {
		t.Run(name, func(t *testing.T) {
			after := func(gap time.Duration) (before, fraction float64) {
				synctest.Test(t, func(t *testing.T) {
					c := held(t, tick)
					before = c.Fraction()
					time.Sleep(gap)
					require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 97, MaxInFlight: 100}))
					fraction = c.Fraction()
				})
				return before, fraction
			}
			_, want := after(100 * time.Millisecond)
			for _, gap := range []time.Duration{5 * time.Second, 30 * time.Second, time.Hour} {
				before, got := after(gap)
				require.Greater(t, before, 0.5)
				require.GreaterOrEqual(t, got, want-0.03, "after %v", gap)
				require.LessOrEqual(t, got, before+0.03, "after %v", gap)
			}
		})
	}
}

// A service that has gone silent at a high load is no evidence that the load
// stays: its pipeline is held where it is until it reports or expires.
func TestASilentServiceDoesNotCloseItsPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(t, 0)
		require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 97, MaxInFlight: 100}))
		time.Sleep(2500 * time.Millisecond)
		fraction := c.Fraction()
		time.Sleep(time.Hour)
		require.Equal(t, fraction, c.Fraction())
	})
}

// A component of another team beats every ten seconds: that is no gap.
func TestSeldomReportsAreNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, backpressure.Config{})
		beat := func(inFlight int64, times int) {
			for range times {
				require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: inFlight, MaxInFlight: 100}))
				time.Sleep(10 * time.Second)
			}
		}
		beat(97, 6)
		require.Less(t, c.Fraction(), 0.3)
		beat(10, 4)
		require.Equal(t, 1.0, c.Fraction())
		require.False(t, c.Active())
	})
}
