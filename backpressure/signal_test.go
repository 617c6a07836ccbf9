package backpressure_test

import (
	"math"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

func TestASignalFromOutsideCapsAgesAndGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, backpressure.Config{})
		require.NoError(t, c.SendSignal(backpressure.Signal{ServiceID: "operator", Fraction: 0.2, Reason: "maintenance"}))
		require.Equal(t, 0.2, c.Fraction())
		require.True(t, c.Active())
		time.Sleep(2900 * time.Millisecond)
		require.Equal(t, 0.2, c.Fraction(), "fresh for three intervals")
		time.Sleep(1600 * time.Millisecond)
		require.InDelta(t, 0.35, c.Fraction(), 0.03, "then on its way")
		time.Sleep(2 * time.Second)
		require.Equal(t, c.Config().SafeFraction, c.Fraction(), "to the safe fraction")
		time.Sleep(6 * time.Second)
		require.Equal(t, 1.0, c.Fraction(), "and gone")
		require.False(t, c.Active())
		require.InDelta(t, 12.25, c.Snapshot().ActiveTime.Seconds(), 0.3)

		require.NoError(t, c.SendSignal(backpressure.Signal{ServiceID: "operator", Fraction: 0.2}))
		require.NoError(t, c.SendSignal(backpressure.Signal{ServiceID: "operator", Fraction: 1}))
		require.Equal(t, 1.0, c.Fraction(), "open is said as loudly as close")
	})
}

func TestASlowSubscriberMissesHistoryNeverTheNewest(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}})
	slow, quick := c.Subscribe(), c.Subscribe()
	defer slow.Close()
	require.Equal(t, 1.0, (<-quick.C()).Fraction)
	for i := range int64(11) {
		require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 90 - 80*(i%2), MaxInFlight: 100}))
		require.Equal(t, []float64{0.5, 1}[i%2], (<-quick.C()).Fraction, "nobody takes another's signal")
	}
	require.Equal(t, 0.5, (<-slow.C()).Fraction)
	require.Empty(t, slow.C())
	require.EqualValues(t, 11, c.Snapshot().SignalsDropped)
	quick.Close()
	quick.Close()
	_, open := <-quick.C()
	require.False(t, open)
}

func TestARestartedDeciderLearnsBeforeItDecides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, backpressure.Config{Learn: time.Second})
		var g gate
		defer c.BindService("source", &g)()
		require.Equal(t, []float64{1}, g.told)
		for range 5 {
			// The pipeline stands at 0.3, one component has just started.
			require.NoError(t, c.Report(backpressure.Report{ServiceID: "source", InFlight: 1, MaxInFlight: 100, Fraction: 0.3}))
			require.NoError(
				t,
				c.Report(
					backpressure.Report{
						ServiceID:   "sink",
						InFlight:    70,
						MaxInFlight: 100,
						Fraction:    0.3,
						Upstreams:   []string{"source"},
					},
				),
			)
			require.NoError(
				t,
				c.Report(
					backpressure.Report{
						ServiceID:   "sink2",
						InFlight:    70,
						MaxInFlight: 100,
						Fraction:    1,
						Upstreams:   []string{"source"},
					},
				),
			)
			require.InDelta(t, 0.3, c.FractionFor("source"), 0.01, "neither released nor slammed")
			time.Sleep(300 * time.Millisecond)
		}
		require.False(t, c.Snapshot().Learning)
		require.True(t, c.Active())
		require.InDelta(t, 0.3, c.FractionFor("source"), 0.05)
		require.Equal(t, c.FractionFor("source"), g.last())
		require.InDelta(t, 0.3, c.Fraction(), 0.05)
	})
}

func TestThresholdsAndPolicyChangeLive(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}})
	var g gate
	defer c.Bind(&g)()
	require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 75, MaxInFlight: 100}))
	require.Equal(t, 1.0, g.last())
	reconfigure := func(change func(*backpressure.Config)) error {
		cfg := c.Config()
		change(&cfg)
		return c.Reconfigure(cfg)
	}
	thresholds := func(activation, recovery float64) func(*backpressure.Config) {
		return func(cfg *backpressure.Config) { cfg.Activation, cfg.Recovery = activation, recovery }
	}
	require.NoError(t, reconfigure(thresholds(0.75, 0.5)))
	require.Equal(t, 0.5, g.last(), "at once")
	require.NoError(t, reconfigure(func(cfg *backpressure.Config) { cfg.Policy = constant(0.4) }))
	require.Equal(t, 0.4, g.last(), "a policy of one's own")
	for _, bad := range [][2]float64{{0.5, 0.6}, {0.5, 0.5}, {1.1, 0.5}, {math.NaN(), 0.5}, {0.8, math.NaN()}, {-1, 0.5}} {
		require.ErrorIs(t, reconfigure(thresholds(bad[0], bad[1])), backpressure.ErrRejected, "%v", bad)
	}
	require.Equal(t, 0.75, c.Config().Activation, "a rejected setting changes nothing")
	require.EqualValues(t, 6, c.Rejected()[backpressure.BadConfig])
}

type constant float64

func (f constant) Decide(backpressure.Input) backpressure.Decision {
	return backpressure.Decision{Fraction: float64(f)}
}

func TestNoSettingIsLost(t *testing.T) {
	c := newController(t, backpressure.Config{})
	cfg := reflect.ValueOf(c.Config())
	for i := range cfg.NumField() {
		if name := cfg.Type().Field(i).Name; name != "Driver" && name != "Learn" {
			require.False(t, cfg.Field(i).IsZero(), "%s has no default", name)
		}
	}
}

func TestConcurrentReportsEndWithTheNewestFraction(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}})
	var g gate
	defer c.Bind(&g)()
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			id := string(rune('a' + i))
			for j := range int64(500) {
				_ = c.Report(backpressure.Report{ServiceID: id, InFlight: j % 100, MaxInFlight: 100})
			}
			_ = c.Report(backpressure.Report{ServiceID: id, InFlight: 10, MaxInFlight: 100})
		})
	}
	running.Wait()
	require.Equal(t, c.Fraction(), g.last())
	require.Equal(t, 1.0, g.last())
}

func FuzzReport(f *testing.F) {
	f.Add("sink", int64(90), int64(100), 0.5, 1.0, int64(1), 0.1, "source", "SOURCE")
	f.Add("\x00", int64(-1), int64(math.MaxInt64), math.NaN(), math.Inf(1), int64(math.MinInt64), -1.0, "\xff", "CONTROL")
	c := newController(f, backpressure.Config{Tick: -1, MaxServices: 100})
	f.Fuzz(
		func(
			t *testing.T, id string, inFlight, most int64, load, throughput float64, latency int64, errorRate float64,
			upstream, kind string,
		) {
			before := c.Snapshot()
			err := c.Report(backpressure.Report{
				ServiceID: id, InFlight: inFlight, MaxInFlight: most, Load: load, Throughput: throughput,
				Latency: time.Duration(latency), ErrorRate: errorRate, Upstreams: []string{upstream}, Kind: topology.Kind(kind),
			})
			after := c.Snapshot()
			if err != nil &&
				(after.InFlight != before.InFlight || after.ServiceLimits != before.ServiceLimits ||
					len(after.Services) != len(before.Services)) {
				t.Fatalf("refused with %v, and changed the sums", err)
			}
			if math.IsNaN(after.Load) || !(after.Fraction >= 0.05 && after.Fraction <= 1) ||
				len(after.Services) > 100 {
				t.Fatalf("load %v, fraction %v, %d services", after.Load, after.Fraction, len(after.Services))
			}
			c.Metrics()
		},
	)
}
