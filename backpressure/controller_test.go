package backpressure_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

func newController(t testing.TB, cfg backpressure.Config) *backpressure.Controller {
	t.Helper()
	c, err := backpressure.New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// gate is the smallest throttler.
type gate struct {
	mu   sync.Mutex
	told []float64
}

func (g *gate) SetFraction(f float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, f)
}

func (g *gate) last() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.told[len(g.told)-1]
}

func TestTheCrossingReportReachesTheGateInTheSameCall(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}})
	var g gate
	defer c.Bind(&g)()
	require.Equal(t, []float64{1}, g.told)

	require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 799, MaxInFlight: 1000}))
	require.Equal(t, 1.0, g.last())
	require.NoError(t, c.UpdateServiceInFlight("sink", 800))
	require.Equal(t, 0.5, g.last())
	require.True(t, c.Active())
	require.NoError(t, c.UpdateServiceInFlight("sink", 601))
	require.Equal(t, 0.5, g.last(), "between the thresholds nothing changes")
	require.NoError(t, c.UpdateServiceInFlight("sink", 600))
	require.Equal(t, 1.0, g.last())
	require.False(t, c.Active())
	require.Equal(t, []float64{1, 0.5, 1}, g.told, "a setter hears of changes only")
}

func TestOneSaturatedSinkHidesInTheMean(t *testing.T) {
	for driver, want := range map[backpressure.Driver]bool{backpressure.WorstStage: true, backpressure.Aggregate: false} {
		t.Run(driver.String(), func(t *testing.T) {
			c := newController(t, backpressure.Config{Driver: driver})
			for i := range 9 {
				require.NoError(t, c.Report(backpressure.Report{ServiceID: fmt.Sprint("idle", i), MaxInFlight: 100}))
			}
			require.NoError(t, c.Report(backpressure.Report{ServiceID: "sink", InFlight: 100, MaxInFlight: 100}))
			require.Equal(t, want, c.Active())
			require.InDelta(t, 0.1, c.Snapshot().AggregateLoad, 1e-9)
			require.InDelta(t, 1.0, c.Snapshot().WorstLoad, 1e-9)
		})
	}
}

func TestThePipelinesOwnLimitCounts(t *testing.T) {
	c := newController(t, backpressure.Config{MaxInFlight: 100})
	require.NoError(t, c.Report(backpressure.Report{ServiceID: "a", InFlight: 40, MaxInFlight: 1000}))
	require.False(t, c.Active())
	require.NoError(t, c.Report(backpressure.Report{ServiceID: "b", InFlight: 40, MaxInFlight: 1000}))
	require.True(t, c.Active())
}

func TestASilentServiceLeavesTheSumAndCountsOnceOnItsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, backpressure.Config{TTL: 30 * time.Second})
		report := func(id string) {
			require.NoError(t, c.Report(backpressure.Report{ServiceID: id, InFlight: 40, MaxInFlight: 100}))
		}
		report("a")
		report("b")
		time.Sleep(29 * time.Second)
		report("b")
		require.Equal(t, int64(80), c.Snapshot().InFlight)
		time.Sleep(2 * time.Second)
		require.Equal(t, int64(40), c.Snapshot().InFlight)
		require.NotContains(t, c.Loads(), "a")
		report("a")
		report("a")
		require.Equal(t, int64(80), c.Snapshot().InFlight)
		require.Equal(t, int64(200), c.Snapshot().ServiceLimits)
	})
}

// TestAThousandServicesJoinAndLeaveAtRandom compares every sum and the worst
// load with a plain recount.
func TestAThousandServicesJoinAndLeaveAtRandom(t *testing.T) {
	const n = 1000
	r := rand.New(rand.NewPCG(1, 2))
	c := newController(t, backpressure.Config{Tick: -1, TTL: -1})
	type state struct{ inFlight, most int64 }
	model := map[string]state{}
	for step := range 20_000 {
		id := fmt.Sprint("service-", r.IntN(n))
		switch r.IntN(4) {
		case 0:
			c.RemoveService(id)
			delete(model, id)
		case 1:
			if s, ok := model[id]; ok {
				s.inFlight = r.Int64N(1000)
				model[id] = s
				require.NoError(t, c.UpdateServiceInFlight(id, s.inFlight))
			}
		default:
			s := state{r.Int64N(1000), r.Int64N(3) * 500}
			model[id] = s
			require.NoError(t, c.Report(backpressure.Report{ServiceID: id, InFlight: s.inFlight, MaxInFlight: s.most}))
		}
		if step%500 != 0 {
			continue
		}
		var inFlight, counted, most int64
		worst := 0.0
		for _, s := range model {
			inFlight += s.inFlight
			most += s.most
			if s.most > 0 {
				counted += s.inFlight
				worst = max(worst, float64(s.inFlight)/float64(s.most))
			}
		}
		snap := c.Snapshot()
		require.Equal(t, inFlight, snap.InFlight)
		require.Equal(t, most, snap.ServiceLimits)
		require.Len(t, snap.Services, len(model))
		require.InDelta(t, min(worst, 2), min(snap.WorstLoad, 2), 2e-5)
		if most > 0 {
			require.InDelta(t, float64(counted)/float64(most), snap.Paths[0].AggregateLoad, 1e-9)
		}
	}
}

func TestThroughputIsWhatLeavesTheSinksAndLatencyTheLongestWay(t *testing.T) {
	ms := time.Millisecond
	reports := []backpressure.Report{
		{ServiceID: "source", Kind: topology.KindSource, Throughput: 1000, Latency: 10 * ms},
		{ServiceID: "fast", Kind: topology.KindProcessor, Throughput: 900, Latency: 5 * ms, Upstreams: []string{"source"}},
		{ServiceID: "slow", Kind: topology.KindProcessor, Throughput: 90, Latency: 50 * ms, Upstreams: []string{"source"}},
		{ServiceID: "sink1", Kind: topology.KindSink, Throughput: 300, Latency: 20 * ms, Upstreams: []string{"fast"}},
		{ServiceID: "sink2", Kind: topology.KindSink, Throughput: 80, Latency: 1 * ms, Upstreams: []string{"fast", "slow"}},
	}
	t.Run("edges", func(t *testing.T) {
		c := newController(t, backpressure.Config{})
		for _, r := range reports {
			require.NoError(t, c.Report(r))
		}
		m := c.Metrics()
		require.Equal(t, 380.0, m.TotalThroughput)
		require.Equal(t, 61*ms, m.EndToEndLatency)
		require.Equal(t, 900.0, m.ServiceThroughput["fast"])
	})
	t.Run("roles", func(t *testing.T) {
		c := newController(t, backpressure.Config{})
		for _, r := range reports {
			r.Upstreams = nil
			require.NoError(t, c.Report(r))
		}
		require.Equal(t, 80*ms, c.Metrics().EndToEndLatency)
	})
}

func TestPathsThrottleOnlyTheEntriesThatFeedThem(t *testing.T) {
	c := newController(t, backpressure.Config{Policy: backpressure.Step{}})
	report := func(id string, inFlight int64, up ...string) {
		require.NoError(t, c.Report(backpressure.Report{ServiceID: id, InFlight: inFlight, MaxInFlight: 100, Upstreams: up}))
	}
	// source1 feeds k1; source2 feeds k1 and k2, the latter through p.
	report("source1", 1)
	report("source2", 1)
	report("p", 1, "source2")
	report("k1", 1, "source1", "source2")
	report("k2", 90, "p")
	require.Equal(t, 1.0, c.FractionFor("source1"))
	require.Equal(t, 0.5, c.FractionFor("source2"))
	require.Equal(t, 0.5, c.FractionFor("k2"))
	require.Equal(t, 1.0, c.FractionFor("k1"), "the path of source1 crosses it too")
	require.Equal(t, 0.5, c.Fraction())
	require.Len(t, c.Snapshot().Paths, 2)

	report("k2", 10, "p")
	report("k1", 90, "source1", "source2")
	require.Equal(t, 0.5, c.FractionFor("source1"))
	require.Equal(t, 0.5, c.FractionFor("source2"))

	report("k1", 90)
	require.Equal(t, 0.5, c.FractionFor("source1"), "a nil list keeps what is known")
}
