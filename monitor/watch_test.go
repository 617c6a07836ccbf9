package monitor_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	grpccodes "google.golang.org/grpc/codes"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/topology"
)

type calls struct{ stats interceptors.Stats }

func (c *calls) Stats() interceptors.Stats { return c.stats }

// TestWatchServerAndClient: traffic, rates, failures, and an edge that is seen
// to block while it still does.
func TestWatchServerAndClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{Interval: time.Second, Freshness: -1})
		server, client := &calls{}, &calls{}
		m.WatchService(monitor.ServiceInfo{
			ID: "ttp", Kind: topology.KindProcessor, Version: "v1",
			Upstreams: []string{"ledgers"},
		})
		m.WatchServer("ttp", server)
		m.WatchClient("ttp", "ledgers", client)
		m.Snapshot()
		for i := range int64(60) {
			time.Sleep(time.Second)
			server.stats = interceptors.Stats{ActiveStreams: 2, MaxActiveStreams: 10, Classes: []interceptors.ClassStats{
				{
					Class: interceptors.ClassGet, Active: 2, Sent: interceptors.Traffic{Messages: i, Rows: 100 * i, Bytes: 5000 * i},
					Completed: 3 * i, Failed: i, Throttled: time.Duration(i) * 100 * time.Millisecond,
				},
				{Class: interceptors.ClassInfo, Sent: interceptors.Traffic{Messages: 1000}},
			}, Failures: []interceptors.Failure{{Code: grpccodes.Internal, Count: i}}}
			client.stats = interceptors.Stats{Classes: []interceptors.ClassStats{
				{
					Class: interceptors.ClassGet, Active: 1, Received: interceptors.Traffic{Messages: i, Bytes: 9000 * i},
					Busy: time.Duration(i) * 900 * time.Millisecond, Throttled: time.Duration(i) * 50 * time.Millisecond,
				},
			}, Failures: []interceptors.Failure{{Code: grpccodes.Internal, Count: 1}, {Code: grpccodes.Unavailable, Count: 2}}}
			m.Snapshot()
		}
		s := m.Snapshot()
		require.Len(t, s.Services, 1, "an upstream is only named")
		v := s.Services[0]
		require.Equal(t, topology.KindProcessor, v.Kind)
		require.Equal(t, int64(2), v.Streams)
		require.Equal(t, int64(10), v.StreamLimit)
		require.Equal(t, monitor.Traffic{Events: 5900, Bytes: 295000}, v.Out, "planning moves no data")
		require.Equal(t, monitor.Traffic{Events: 59, Bytes: 531000}, v.In, "messages where there are no rows")
		require.InDelta(t, 100, v.Throughput, 2)
		require.InDelta(t, 0.25, v.ErrorRatio, 0.01)
		require.Equal(t, 5900*time.Millisecond, v.Blocked)
		errors := map[string]float64{}
		monitor.FamilyOf("flowctl_service_errors_total").Collect(s,
			func(v monitor.Sample) { errors[v.Labels[0]+" "+v.Labels[1]] = v.Value })
		require.Equal(t, map[string]float64{"ttp Internal": 60, "ttp Unavailable": 2}, errors, "served and called")
		require.Len(t, s.Edges, 1)
		e := s.Edges[0]
		require.True(t, e.Connected)
		require.Equal(t, "ledgers", e.Source)
		require.Equal(t, uint64(59), e.Events)
		require.InDelta(t, 0.95, e.BlockedRatio, 0.02)
	})
}

// TestBlockedTimeDoesNotFall by what a reading in the midst of a change loses.
func TestBlockedTimeDoesNotFall(t *testing.T) {
	m := newMonitor(t, monitor.Config{Freshness: -1})
	client := &calls{}
	m.WatchClient("sink", "source", client)
	for _, step := range []struct{ busy, want time.Duration }{
		{time.Second, time.Second},
		{time.Second - 100, time.Second},
		{time.Second + 1, time.Second + 1},
	} {
		client.stats.Classes = []interceptors.ClassStats{{Class: interceptors.ClassGet, Active: 1, Busy: step.busy}}
		require.Equal(t, step.want, m.Snapshot().Edges[0].Blocked)
	}
}

// TestBlockedSenderShowsBeforeItUnblocks: a wait in progress is time already.
func TestBlockedSenderShowsBeforeItUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttler, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}})
		require.NoError(t, err)
		m := newMonitor(t, monitor.Config{Freshness: -1})
		m.WatchThrottler("sink", throttler)
		held, err := throttler.TryAcquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		go func() {
			if permit, err := throttler.Acquire(t.Context(), flowcontrol.Cost{Messages: 1}); err == nil {
				permit.Release(flowcontrol.Success)
			}
		}()
		pass(50 * time.Millisecond)
		v := m.Snapshot().Service("sink")
		require.Equal(t, 50*time.Millisecond, v.Blocked)
		require.Equal(t, int64(1), v.QueueDepth)
		require.Zero(t, v.Wait.Count())
		held.Release(flowcontrol.Success)
		synctest.Wait()
		v = m.Snapshot().Service("sink")
		require.Equal(t, uint64(1), v.Wait.Count())
		require.InDelta(t, 0.05, v.Wait.Sum, 0.001)
	})
}

type agent struct{ backpressure.AgentStats }

func (a agent) Stats() backpressure.AgentStats { return a.AgentStats }

func TestWatchAgent(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	m.WatchAgent("sink", agent{backpressure.AgentStats{Fraction: 0.4, Reconnects: map[string]uint64{
		"unreachable": 3,
		"invented":    1,
	}}})
	s := m.Snapshot()
	require.Equal(t, 0.4, s.Service("sink").Fraction)
	require.True(t, s.Discovers, "the histogram of discovery is there from the start")
	require.True(t, s.Discovery.Known())
	require.Contains(t, s.Reconnections, monitor.ReconnectionCount{Service: "sink", Reason: "unreachable", Count: 3})
	require.Contains(t, s.Reconnections, monitor.ReconnectionCount{Service: "sink", Reason: monitor.Other, Count: 1})
}

func TestWatchTopology(t *testing.T) {
	now := time.Now()
	g := &topology.Graph{
		Nodes: []topology.Node{
			{ID: "src", Kind: topology.KindSource, Version: "v2", Status: topology.Status{
				Health:   topology.HealthHealthy,
				InFlight: 5, MaxInFlight: 10, Load: 0.5, LastHeartbeat: now.Add(-3 * time.Second),
			}},
			{
				ID: "sink", Kind: topology.KindSink, Upstreams: []string{"src"},
				Status: topology.Status{Health: topology.HealthDown},
			},
			{ID: "cp", Kind: topology.KindControl},
		},
		Edges: []topology.Edge{
			{From: "src", To: "sink", State: topology.StateConnected, Blocked: 0.7},
			{To: "sink", Endpoint: "x:1"},
		},
	}
	m := newMonitor(t, monitor.Config{})
	m.WatchTopology(topology.SourceFunc(func() *topology.Graph { return g }))
	s := m.Snapshot()
	require.Len(t, s.Services, 2)
	src, sink := s.Service("src"), s.Service("sink")
	require.Equal(t, topology.KindSource, src.Kind)
	require.Equal(t, 0.5, src.Load)
	require.Equal(t, "v2", src.Version)
	require.InDelta(t, 3, src.HeartbeatAge.Seconds(), 1)
	require.Equal(t, topology.HealthDown, sink.Health)
	require.Equal(t, []monitor.Edge{s.Edges[0]}, s.Edges)
	require.True(t, s.Edges[0].Connected)
	require.Equal(t, 0.7, s.Edges[0].BlockedRatio)
	n := 0
	monitor.FamilyOf("flowctl_edge_events_total").Collect(s, func(monitor.Sample) { n++ })
	require.Zero(t, n, "who is no end of an edge does not count its events")
}

// TestRejectionsReachTheMetrics: 28 of 60 calls that a stream limit turns away
// are no errors, and yet they show.
func TestRejectionsReachTheMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{Freshness: -1})
		server := &calls{}
		m.WatchServer("a", server)
		m.Snapshot()
		time.Sleep(time.Second)
		server.stats = interceptors.Stats{
			Classes: []interceptors.ClassStats{{Class: interceptors.ClassGet, Completed: 32}},
			Rejections: []interceptors.Rejection{{
				Class: interceptors.ClassGet, Reason: interceptors.ReasonActiveStreams,
				Count: 28,
			}},
		}
		for i := range 150 {
			server.stats.Tenants = append(server.stats.Tenants, interceptors.TenantStats{
				Tenant:   fmt.Sprint("tenant ", i),
				Rejected: 2,
			})
		}
		s := m.Snapshot()
		require.InDelta(t, 28.0/60, s.Service("a").RejectedRatio, 1e-9)
		require.Zero(t, s.Service("a").ErrorRatio)
		var rejections []monitor.Sample
		monitor.FamilyOf("flowctl_service_rejections_total").Collect(s,
			func(v monitor.Sample) { rejections = append(rejections, v) })
		require.Equal(t, []monitor.Sample{{Labels: [monitor.MaxLabels]string{
			"a", interceptors.ClassGet.String(),
			string(interceptors.ReasonActiveStreams),
		}, Value: 28}}, rejections)
		tenants, sum := 0, 0.0
		monitor.FamilyOf("flowctl_tenant_rejections_total").Collect(s, func(v monitor.Sample) { tenants++; sum += v.Value })
		require.Equal(t, 101, tenants, "a hundred, and the others as one")
		require.Equal(t, 300.0, sum)
	})
}

// TestTicketsAreNoEvents: what a client sends with a Get, and gets back for a Put,
// is no data. A lone sink counts what it took, exactly.
func TestTicketsAreNoEvents(t *testing.T) {
	m := newMonitor(t, monitor.Config{Freshness: -1})
	traffic := func(n int64) interceptors.Traffic { return interceptors.Traffic{Messages: n, Bytes: 10 * n} }
	client, server := &calls{}, &calls{}
	m.WatchService(monitor.ServiceInfo{ID: "sink", Kind: topology.KindSink})
	m.WatchClient("sink", "", client)
	m.WatchServer("source", server)
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) { d.Pipeline() }))
	for _, n := range []int64{0, 500, 28860} {
		client.stats.Classes = []interceptors.ClassStats{
			{Class: interceptors.ClassGet, Sent: traffic(1), Received: traffic(n)},
			{Class: interceptors.ClassPut, Sent: traffic(0), Received: traffic(3)},
		}
		server.stats.Classes = []interceptors.ClassStats{
			{Class: interceptors.ClassGet, Received: traffic(1), Sent: traffic(n)},
		}
		s := m.Snapshot()
		events, bytes := uint64(n), uint64(10*n)
		require.Equal(t, monitor.Traffic{Events: events, Bytes: bytes}, s.Service("sink").In)
		require.Zero(t, s.Service("sink").Out)
		require.Equal(t, monitor.Traffic{Events: events, Bytes: bytes}, s.Service("source").Out)
		require.Zero(t, s.Service("source").In)
		require.Equal(t, events, s.Pipeline.Events)
	}
	client.stats.Classes = []interceptors.ClassStats{{Class: interceptors.ClassGet, Received: traffic(7)}}
	require.Equal(t, uint64(28867), m.Snapshot().Pipeline.Events, "the client began anew")
}
