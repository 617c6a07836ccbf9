package topology_test

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
)

func edgesOf(g *topology.Graph) (list []string) {
	for _, e := range g.Edges {
		list = append(list, e.From+">"+e.To+" "+string(e.Origin))
	}
	return list
}

func TestEventTypesMatchOnlyWhatNothingMoreReliableExplains(t *testing.T) {
	tr := topology.NewTracker(topology.TrackerConfig{})
	for _, n := range []topology.Node{
		{ID: "source-a", Kind: topology.KindSource, OutputEventTypes: []string{"ledger"}, Endpoint: "0.0.0.0:8815"},
		{ID: "source-b", Kind: topology.KindSource, OutputEventTypes: []string{"ledger"}, Endpoint: "b:8815"},
		{ID: "other", Kind: topology.KindSource, OutputEventTypes: []string{"price"}},
		{
			ID: "proc", Kind: topology.KindProcessor, InputEventTypes: []string{"ledger", "price"},
			OutputEventTypes: []string{"ttp"},
		},
		{ID: "sink-1", Kind: topology.KindSink, InputEventTypes: []string{"ttp"}},
		{ID: "sink-2", Kind: topology.KindSink, Upstreams: []string{"proc"}},
	} {
		require.NoError(t, tr.Register(n))
	}
	require.Equal(t, []string{
		"other>proc matched", "proc>sink-1 matched", "proc>sink-2 declared",
		"source-a>proc matched", "source-b>proc matched",
	}, edgesOf(tr.Topology()))

	// A pool of proc sees that it dials source-a: the guess of source-b goes,
	// the price, which nothing explains, stays.
	require.NoError(t, tr.Observe(topology.Edge{To: "proc", Endpoint: "dns:///127.0.0.1:8815"}))
	g := tr.Topology()
	require.Equal(t, []string{
		"other>proc matched", "proc>sink-1 matched", "proc>sink-2 declared", "source-a>proc observed",
	}, edgesOf(g))
	e, _ := g.Edge("source-a", "proc")
	require.True(t, e.Connected)
	require.Equal(t, []string{"ledger"}, e.EventTypes)
	require.Equal(t, g, g.Normalize(), "normalizing twice is the same as once")

	require.True(t, tr.Remove("source-a"))
	require.False(t, tr.Remove("source-a"))
}

func TestAnEndpointResolvesWhenItsNodeRegisters(t *testing.T) {
	tr := topology.NewTracker(topology.TrackerConfig{})
	require.NoError(t, tr.Observe(topology.Edge{To: "proc", Endpoint: "src.example:1"}))
	g := tr.Topology()
	require.Empty(t, g.Edges)
	require.Equal(t, topology.ProblemEndpoint, g.Problems[0].Kind)
	require.NoError(t, tr.Register(topology.Node{ID: "src", Kind: topology.KindSource, Endpoint: "SRC.example:1"}))
	require.Equal(t, []string{"src>proc observed"}, edgesOf(tr.Topology()))
	n, ok := tr.Topology().Node("proc")
	require.True(t, ok)
	require.Equal(t, topology.HealthUnknown, n.Health, "named by others, registered by nobody")
}

func TestASilentNodeGoesDownAndItsEdgesWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := topology.NewTracker(topology.TrackerConfig{})
		require.NoError(t, tr.Register(topology.Node{ID: "a", Kind: topology.KindSource}))
		require.NoError(t, tr.Register(topology.Node{ID: "b", Kind: topology.KindSink}))
		require.NoError(t, tr.Observe(topology.Edge{From: "a", To: "b", Throughput: 100}))
		require.NoError(t, tr.Report("a", topology.Status{}))
		require.NoError(t, tr.Report("b", topology.Status{InFlight: 32, MaxInFlight: 64}))
		g := tr.Topology()
		require.Equal(t, 0.5, g.Nodes[1].Load)
		require.Same(t, g, tr.Topology(), "nothing changed")

		time.Sleep(20 * time.Second)
		require.NoError(t, tr.Report("b", topology.Status{InFlight: 32, MaxInFlight: 64}))
		time.Sleep(10 * time.Second)
		g = tr.Topology()
		require.Equal(t, topology.HealthDown, g.Nodes[0].Health)
		require.Equal(t, topology.HealthHealthy, g.Nodes[1].Health)
		require.Equal(t, topology.StateDown, g.Edges[0].State)
		require.Zero(t, g.Edges[0].Throughput)
	})
}

func TestReconnectsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := topology.NewTracker(topology.TrackerConfig{})
		up := topology.Edge{From: "a", To: "b"}
		down := topology.Edge{From: "a", To: "b", State: topology.StateDown}
		began := time.Now()
		require.NoError(t, tr.Observe(up))
		time.Sleep(time.Second)
		require.NoError(t, tr.Observe(down))
		require.Equal(t, began, tr.Topology().Edges[0].LastConnected)
		require.NoError(t, tr.Observe(up))
		require.NoError(t, tr.Observe(up))
		e := tr.Topology().Edges[0]
		require.EqualValues(t, 1, e.Reconnects)
		require.Equal(t, began.Add(time.Second), e.LastConnected)
	})
}

func TestARejectedCallChangesNothing(t *testing.T) {
	tr := topology.NewTracker(topology.TrackerConfig{MaxNodes: 1})
	require.NoError(t, tr.Register(topology.Node{ID: "a"}))
	before := tr.Topology()
	require.ErrorIs(t, tr.Register(topology.Node{}), topology.ErrInvalid)
	require.ErrorIs(t, tr.Register(topology.Node{ID: "b"}), topology.ErrInvalid)
	require.ErrorIs(t, tr.Register(topology.Node{ID: "a", Upstreams: make([]string, 300)}), topology.ErrInvalid)
	require.ErrorIs(t, tr.Register(topology.Node{ID: string(make([]byte, 600))}), topology.ErrInvalid)
	require.ErrorIs(t, tr.Report("b", topology.Status{}), topology.ErrInvalid)
	require.ErrorIs(t, tr.Observe(topology.Edge{From: "a"}), topology.ErrInvalid)
	require.ErrorIs(t, tr.Observe(topology.Edge{To: "a"}), topology.ErrInvalid)
	require.Same(t, before, tr.Topology())
}

func TestFiguresThatCannotBeCountAsZero(t *testing.T) {
	tr := topology.NewTracker(topology.TrackerConfig{})
	require.NoError(t, tr.Register(topology.Node{ID: "a"}))
	require.NoError(t, tr.Report("a", topology.Status{Load: math.NaN(), OutRate: math.Inf(1), InFlight: -3, Latency: -1}))
	n, _ := tr.Topology().Node("a")
	require.Zero(t, n.Load)
	require.Zero(t, n.OutRate)
	require.Zero(t, n.InFlight)
	require.Zero(t, n.Latency)
}

func TestASlowSubscriberGetsTheNewestGraph(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := topology.NewTracker(topology.TrackerConfig{})
		slow, other := tr.Subscribe(), tr.Subscribe()
		defer other.Close()
		for _, id := range []string{"a", "b", "c"} {
			require.NoError(t, tr.Register(topology.Node{ID: id}))
		}
		g, err := slow.Next(t.Context())
		require.NoError(t, err)
		require.Len(t, g.Nodes, 3)
		waited := make(chan error)
		go func() {
			_, err := slow.Next(t.Context())
			waited <- err
		}()
		synctest.Wait()
		require.Empty(t, waited, "there is no second change to tell")
		slow.Close()
		slow.Close()
		require.ErrorIs(t, <-waited, topology.ErrClosed)
		g, err = other.Next(t.Context())
		require.NoError(t, err, "one subscriber never takes another's news")
		require.Len(t, g.Nodes, 3)
	})
}

func TestFromMetrics(t *testing.T) {
	s, edges := topology.FromMetrics("proc", map[string]float64{
		"current_inflight": 16, "max_inflight": 64, "inflight_utilization": 0.25, "throttle_rate": 0.5,
		"backpressure_active": 1, "events_per_second": 1200, "processing_latency_ms": 3.5, "queue_depth": math.NaN(),
		"pool_total_connections:src:8815": 4, "pool_healthy_connections:src:8815": 3, "pool_idle_connections:src:8815": 1,
		"pool_total_connections:": 9, "something_else": 1,
	})
	require.Equal(t, topology.Status{
		InFlight: 16, MaxInFlight: 64, Load: 0.25, Fraction: 0.5, Active: true, OutRate: 1200,
		Latency: 3500 * time.Microsecond,
	}, s)
	require.Equal(t, []topology.Edge{{
		To: "proc", Endpoint: "src:8815", Origin: topology.OriginObserved, State: topology.StateDegraded,
		Pool: &topology.Pool{Total: 4, Healthy: 3, Idle: 1},
	}}, edges)
}

// TestThePipelineAndItsAlerts are shown as they were given, wake a subscriber when
// they change, and only then.
func TestThePipelineAndItsAlerts(t *testing.T) {
	tr := topology.NewTracker(topology.TrackerConfig{})
	before := tr.Topology().Version
	alerts := []topology.Alert{{Name: "ServiceHighLoad", Severity: "warning"}}
	tr.SetPipeline(topology.Pipeline{Throughput: 12, Load: math.NaN(), Fraction: 0.5})
	tr.SetAlerts(alerts)
	g := tr.Topology()
	require.Equal(t, before+2, g.Version)
	require.Equal(t, 12.0, g.Pipeline.Throughput)
	require.Zero(t, g.Pipeline.Load)
	require.Equal(t, 0.5, g.Pipeline.Fraction)
	require.Equal(t, alerts, g.Alerts)

	tr.SetPipeline(topology.Pipeline{Throughput: 12, Fraction: 0.5})
	tr.SetAlerts([]topology.Alert{{Name: "ServiceHighLoad", Severity: "warning"}})
	require.Equal(t, g.Version, tr.Topology().Version)
	alerts[0].Name = "another"
	require.Equal(t, "ServiceHighLoad", tr.Topology().Alerts[0].Name)
}
