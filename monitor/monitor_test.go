package monitor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/topology"
)

func newMonitor(t testing.TB, cfg monitor.Config) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(cfg)
	require.NoError(t, err)
	return m
}

func TestConfigDefaultsAndProblems(t *testing.T) {
	cfg := newMonitor(t, monitor.Config{}).Config()
	for i := range reflect.TypeFor[monitor.Config]().NumField() {
		switch name := reflect.TypeFor[monitor.Config]().Field(i).Name; name {
		case "Scope", "NoLegacy", "TraceID": // zero means none, or is the default
		default:
			require.False(t, reflect.ValueOf(cfg).Field(i).IsZero(), name)
		}
	}
	_, err := monitor.New(monitor.Config{Interval: time.Nanosecond, MaxServices: 2000, MaxPools: -1, Scope: 9})
	require.ErrorIs(t, err, monitor.ErrConfig)
	problem, ok := errors.AsType[*monitor.Error](err)
	require.True(t, ok)
	require.Equal(t, "Interval", problem.Field)
	for _, part := range []string{"MaxServices", "MaxPools", "Scope"} {
		require.ErrorContains(t, err, part)
	}
}

func TestConfigFromEnv(t *testing.T) {
	cfg, err := monitor.ConfigFromEnv(func(string) string { return "3s" })
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, cfg.Interval)
	cfg, err = monitor.ConfigFromEnv(func(string) string { return "" })
	require.NoError(t, err)
	require.Zero(t, cfg.Interval)
	for _, bad := range []string{"3", "-1s", "soon", "1ms"} {
		_, err := monitor.ConfigFromEnv(func(string) string { return bad })
		require.ErrorContains(t, err, "MONITORING_INTERVAL")
		require.ErrorContains(t, err, bad)
	}
}

// TestStartStopStart is the regression test of a monitor that panicked when it
// was started again.
func TestStartStopStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{Interval: time.Second, History: 5 * time.Second})
		m.Watch(monitortest.Pipeline(2))
		m.Stop()
		for range 3 {
			m.Start()
			m.Start()
			pass(2500 * time.Millisecond)
			m.Stop()
			m.Stop()
		}
		points := m.History()
		require.Len(t, points, 5, "the ring is full")
		for i := range points[1:] {
			require.True(t, points[i].Time.Before(points[i+1].Time))
		}
		require.Equal(t, float32(2500), points[4].Throughput)
		require.Len(t, points[4].Services, 2)
	})
}

func TestStartAndStopFromManyGoroutines(t *testing.T) {
	m := newMonitor(t, monitor.Config{Interval: 10 * time.Millisecond, Freshness: -1})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				m.Start()
				stop := m.Watch(monitortest.Pipeline(2))
				m.Snapshot()
				m.Recent(time.Second)
				stop()
				m.Stop()
			}
		})
	}
	wg.Wait()
}

func TestSnapshotIsSharedWhileFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{})
		builds := 0
		m.Watch(monitor.SourceFunc(func(*monitor.Draft) { builds++ }))
		first := m.Snapshot()
		require.Same(t, first, m.Snapshot())
		require.Same(t, first, m.Recent(time.Second))
		require.Equal(t, 1, builds)
		time.Sleep(250 * time.Millisecond)
		require.NotSame(t, first, m.Snapshot())
		require.Equal(t, 2, builds)
	})
}

// TestRecentDoesNotWaitForABlockedSource: an SDK asks with a lock held that the
// source may want.
func TestRecentDoesNotWaitForABlockedSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{})
		release := make(chan struct{})
		m.Watch(monitor.SourceFunc(func(*monitor.Draft) { <-release }))
		began := time.Now()
		require.NotNil(t, m.Recent(100*time.Millisecond))
		require.NotNil(t, m.Recent(100*time.Millisecond)) // somebody builds already
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		close(release)
		synctest.Wait()
	})
}

func TestServicesThatLeftAreGone(t *testing.T) {
	m := newMonitor(t, monitor.Config{Freshness: -1})
	script := monitortest.NewScript(monitortest.Pipeline(3).Collect, monitortest.Pipeline(1).Collect)
	stop := m.Watch(script)
	require.Len(t, m.Snapshot().Services, 3)
	script.Next()
	require.Len(t, m.Snapshot().Services, 1)
	stop()
	require.Empty(t, m.Snapshot().Services)
}

// TestBeyondTheBounds: those that have series keep them, and what is folded adds up.
func TestBeyondTheBounds(t *testing.T) {
	m := newMonitor(t, monitor.Config{Freshness: -1, MaxServices: 3, MaxPools: 1, MaxEdges: 1})
	some := func(ids ...string) func(*monitor.Draft) {
		return func(d *monitor.Draft) {
			for i, id := range ids {
				v := d.Service(id)
				v.Local, v.InFlight, v.Load = true, 1, 0.1*float64(i)
				d.Pool(id).Total = 2
				d.Edge(id, "x").Events = 5
			}
		}
	}
	script := monitortest.NewScript(some("m", "n"), some("m", "n", "o"), some("a", "m", "n", "o", "z"))
	m.Watch(script)
	m.Snapshot()
	script.Next()
	ids := func(s *monitor.Snapshot) (list []string) {
		for _, v := range s.Services {
			list = append(list, v.ID)
		}
		return list
	}
	require.Equal(t, []string{"m", "n", "o"}, ids(m.Snapshot()))
	script.Next()
	s := m.Snapshot()
	require.Equal(t, []string{"m", "n", "o", monitor.Other}, ids(s), "a newcomer displaces nobody")
	other := s.Service(monitor.Other)
	require.Equal(t, int64(2), other.InFlight, "amounts add up")
	require.InDelta(t, 0.4, other.Load, 1e-9, "ratios take the largest")
	require.Len(t, s.Pools, 2)
	require.Equal(t, int64(8), s.Pools[1].Total)
	require.Len(t, s.Edges, 2)
	require.Positive(t, s.SeriesDropped)
	require.Greater(t, m.Snapshot().SeriesDropped, s.SeriesDropped)
}

// TestHostileFiguresAndIDs: what sources say may come from outside.
func TestHostileFiguresAndIDs(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		v := d.Service("a\xffb" + strings.Repeat("é", 200))
		v.Local, v.Load, v.ErrorRatio, v.Throughput, v.Latency = true, math.NaN(), math.Inf(1), math.Inf(-1), -time.Second
		v.Kind = "<script>"
		d.Service("")
		d.Pipeline().Load = math.NaN()
		d.Pool("dns:///host:1").Total++
		d.Pool("host:1").Total++
		d.Pool("dns://resolver/host:1").Total++
		d.Reconnections("x", "a reason from outside", 3)
	}))
	s := m.Snapshot()
	require.Len(t, s.Services, 2)
	v := s.Services[0]
	require.LessOrEqual(t, len(v.ID), 128)
	require.Equal(t, topology.KindUnknown, v.Kind)
	require.Zero(t, v.Load)
	require.Equal(t, 1.0, v.ErrorRatio)
	require.Zero(t, v.Latency)
	require.Len(t, s.Pools, 1)
	require.Equal(t, int64(3), s.Pools[0].Total)
	for _, r := range s.Reconnections {
		require.NotContains(t, r.Reason, "outside", "the set of reasons is closed")
	}
	_, err := json.Marshal(s)
	require.NoError(t, err)
}

// TestSaturatedGateStaysVisible: while everything is rejected, in flight is what
// it is and not 0.
func TestSaturatedGateStaysVisible(t *testing.T) {
	throttler, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 2}})
	require.NoError(t, err)
	m := newMonitor(t, monitor.Config{Freshness: -1})
	m.WatchService(monitor.ServiceInfo{ID: "sink", Kind: topology.KindSink, Upstreams: []string{"source"}})
	m.WatchThrottler("sink", throttler)
	for range 2 {
		_, err := throttler.TryAcquire(t.Context(), flowcontrol.Cost{Messages: 1, Rows: 10})
		require.NoError(t, err)
	}
	for range 5 {
		_, err := throttler.TryAcquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.ErrorIs(t, err, flowcontrol.ErrRejected)
		s := m.Snapshot()
		require.Len(t, s.Services, 1, "an upstream that is only named has no series here")
		v := s.Service("sink")
		require.Equal(t, int64(2), v.InFlight)
		require.Equal(t, int64(20), v.InFlightRows)
		require.Equal(t, int64(2), v.Peak)
		require.Equal(t, 1.0, v.Load)
	}
	v := m.Snapshot().Service("sink")
	require.Contains(t, v.Admissions, monitor.AdmissionCount{Decision: "rejected", Reason: "in_flight", Count: 5})
	require.Contains(t, v.Admissions, monitor.AdmissionCount{Decision: "admitted", Reason: "none", Count: 2})
	require.Contains(t, v.Admissions, monitor.AdmissionCount{Decision: "rejected", Reason: "rate"}, "zero from the start")
}

func TestWatchController(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := backpressure.New(backpressure.Config{})
		require.NoError(t, err)
		defer c.Close()
		m := newMonitor(t, monitor.Config{Freshness: -1})
		require.Nil(t, m.Snapshot().Pipeline, "who does not decide has no pipeline")
		m.WatchController(c)
		report := func(inFlight int64) {
			require.NoError(t, c.Report(backpressure.Report{
				ServiceID: "src", Kind: topology.KindSource, InFlight: 1,
				MaxInFlight: 100, Latency: time.Second, Throughput: 50,
			}))
			require.NoError(t, c.Report(backpressure.Report{
				ServiceID: "sink", Kind: topology.KindSink, InFlight: inFlight,
				MaxInFlight: 100, Upstreams: []string{"src"}, Latency: 2 * time.Second, Throughput: 10,
			}))
		}
		g := &topology.Graph{}
		m.WatchTopology(topology.SourceFunc(func() *topology.Graph { return g }))
		report(90)
		time.Sleep(4 * time.Second)
		s := m.Snapshot()
		require.True(t, s.Pipeline.Active)
		require.Equal(t, 4*time.Second, s.Pipeline.ActiveTime)
		require.Equal(t, uint64(1), s.Pipeline.Activations)
		require.Equal(t, uint64(0), s.Pipeline.Recoveries)
		require.Equal(t, 10.0, s.Pipeline.Throughput, "what leaves the sinks, not the sum over stages")
		require.Equal(t, 3*time.Second, s.Pipeline.Latency, "the sum along the path")
		require.Equal(t, "sink", s.Pipeline.WorstService)
		require.Equal(t, 4*time.Second, s.Service("sink").HeartbeatAge)
		require.Equal(t, topology.KindSink, s.Service("sink").Kind)
		g = &topology.Graph{Pipeline: topology.Pipeline{Events: 28860}}
		require.Equal(t, uint64(28860), m.Snapshot().Pipeline.Events, "as the sinks counted them")
		time.Sleep(2 * time.Second)
		require.Equal(t, uint64(28860), m.Snapshot().Pipeline.Events, "no rate is added up")

		g = &topology.Graph{Pipeline: topology.Pipeline{Latency: time.Second}}
		require.Equal(t, 3*time.Second, m.Snapshot().Pipeline.Latency, "one sum is as good as another")
		g = &topology.Graph{Pipeline: topology.Pipeline{Latency: time.Second, LatencyMeasured: true}}
		require.Equal(t, time.Second, m.Snapshot().Pipeline.Latency, "a sink measured it")
		require.True(t, m.Snapshot().Pipeline.LatencyMeasured)
		g = &topology.Graph{}
		require.False(t, m.Snapshot().Pipeline.LatencyMeasured)

		m.ObserveLatency(600 * time.Millisecond)
		m.ObserveLatency(800 * time.Millisecond)
		m.ObserveLatency(-time.Second) // clocks that differ
		require.Equal(t, 700*time.Millisecond, m.Snapshot().Pipeline.Latency)
		require.True(t, m.Snapshot().Pipeline.LatencyMeasured)
		time.Sleep(time.Minute)
		require.False(t, m.Snapshot().Pipeline.LatencyMeasured)
		for range 60 {
			report(1)
			time.Sleep(time.Second)
		}
		s = m.Snapshot()
		require.False(t, s.Pipeline.Active)
		require.Equal(t, uint64(1), s.Pipeline.Activations, "also when the path has gone in the meantime")
		require.Equal(t, uint64(1), s.Pipeline.Recoveries)
	})
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

type pools []connpool.Stats

func (p pools) Stats() []connpool.Stats { return p }

func TestWatchPools(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	m.WatchPools("sink", pools{{
		Endpoint: "dns:///ttp:8816", TotalConnections: 3, HealthyConnections: 2, IdleConnections: 1, MaxConnections: 10,
		Waiting: 4,
		Waits:   3, WaitTime: time.Second, WaitBuckets: [11]uint64{2: 3},
		Opened: map[string]uint64{"minimum": 4, "load": 1}, Closed: map[string]uint64{"lost": 3},
		DialFailures: 2, TotalUseCount: 9, Rejected: map[connpool.Reason]uint64{connpool.ReasonSaturated: 1}, Ejections: 2,
	}})
	s := m.Snapshot()
	require.Equal(t, "ttp:8816", s.Pools[0].Endpoint)
	require.Equal(t, uint64(5), s.Pools[0].Opened)
	require.Equal(t, uint64(3), s.Pools[0].Wait.Count())
	require.Equal(t, uint64(3), s.Pools[0].Wait.Counts[2], "of 2 to 4 ms")
	require.Equal(t, []monitor.ReasonCount{{Reason: "lost", Count: 3}}, s.Pools[0].Closed)
	require.Equal(t, []monitor.EndpointCount{{Endpoint: "ttp:8816", Count: 2}}, s.Service("sink").Connections)
	require.Len(t, s.Reconnections, 10, "all reasons from the start")
	require.Contains(t, s.Reconnections, monitor.ReconnectionCount{Service: "sink", Reason: "health_check", Count: 2})
	require.Contains(t, s.Reconnections, monitor.ReconnectionCount{Service: "sink", Reason: "unreachable", Count: 3})
}

// TestScope: a control plane exports what its components cannot say themselves.
func TestScope(t *testing.T) {
	for scope, want := range map[monitor.Scope]int{monitor.AllServices: 1, monitor.LocalServices: 0} {
		m := newMonitor(t, monitor.Config{Scope: scope})
		m.Watch(monitor.SourceFunc(func(d *monitor.Draft) { d.Service("far").Load = 0.9 }))
		count := func(metric string) (n int) {
			monitor.FamilyOf(metric).Collect(m.Snapshot(), func(monitor.Sample) { n++ })
			return n
		}
		require.Equal(t, want, count("flowctl_service_load_ratio"))
		require.Equal(t, 1, count("flowctl_service_health"))
	}
}

func TestEveryFamilyIsDocumentedAndReadable(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	m.Watch(monitortest.Pipeline(3))
	m.ObserveDiscovery(t.Context(), time.Millisecond)
	s := m.Snapshot()
	names := map[string]bool{}
	for _, f := range m.Families() {
		require.False(t, names[f.Name] || names[f.OTel], "%s exists twice", f.Name)
		names[f.Name], names[f.OTel] = true, f.OTel != ""
		if f.Name == "flowctl_pool_acquire_wait_seconds" || f.Name == "flowctl_alerts" { // not in the script
			continue
		}
		n := 0
		f.Collect(s, func(v monitor.Sample) {
			n++
			for i := range f.Labels {
				if f.Labels[i] != "version" {
					require.NotEmpty(t, v.Labels[i], f.Name)
				}
			}
		})
		require.Positive(t, n, f.Name)
		require.NotEmpty(t, f.Help)
		require.LessOrEqual(t, len(f.Labels), monitor.MaxLabels)
		require.Equal(t, f.Legacy, f.OTel == "", f.Name)
		require.Same(t, f, monitor.FamilyOf(f.Name))
	}
	require.Len(t, newMonitor(t, monitor.Config{NoLegacy: true}).Families(), len(m.Families())-1)
	require.Nil(t, monitor.FamilyOf("flowctl_throttle_rate_sum"))
	require.NotNil(t, monitor.FamilyOf("flowctl_service_discovery_duration_seconds_bucket"))
}

// TestAServiceNamedOther: it is one with what is folded, not a second series of
// that name, which would fail the whole scrape.
func TestAServiceNamedOther(t *testing.T) {
	m := newMonitor(t, monitor.Config{MaxServices: 2, MaxPools: 2, MaxEdges: 2})
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		for _, id := range []string{"a", monitor.Other, "z", "zz"} {
			d.Service(id).InFlight = 1
			d.Pool(id).Total = 1
			d.Edge(id, id).Events = 1
		}
	}))
	s := m.Snapshot()
	require.Len(t, s.Services, 3)
	require.Equal(t, int64(2), s.Service(monitor.Other).InFlight)
	require.Len(t, s.Pools, 3)
	require.Equal(t, int64(2), s.Pools[2].Total)
	require.Len(t, s.Edges, 3)
	require.Equal(t, uint64(2), s.Edges[2].Events)
}

// TestLabelsOfAServiceAreBounded: endpoints as pools are, codes by gRPC's set.
func TestLabelsOfAServiceAreBounded(t *testing.T) {
	m := newMonitor(t, monitor.Config{MaxPools: 3})
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		v := d.Service("a")
		v.Local = true
		for i := range 10 {
			endpoint := fmt.Sprintf("host-%d:1", i)
			d.Pool(endpoint).Total = 1
			v.AddConnections(endpoint, 2)
			v.AddError(fmt.Sprint("invented ", i), 1)
		}
		v.AddError("Internal", 5)
	}))
	v := m.Snapshot().Service("a")
	require.Equal(t, []monitor.EndpointCount{
		{Endpoint: "host-0:1", Count: 2},
		{Endpoint: "host-1:1", Count: 2},
		{Endpoint: "host-2:1", Count: 2},
		{Endpoint: monitor.Other, Count: 14},
	}, v.Connections)
	require.Equal(t, []monitor.CodeCount{{Code: "Unknown", Count: 10}, {Code: "Internal", Count: 5}}, v.Errors)
}

// TestErrorRatioIsForgotten when nothing has ended for a minute: what failed
// last must not be a failure for ever.
func TestErrorRatioIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{Freshness: -1})
		client := &calls{}
		m.WatchClient("a", "", client)
		m.Snapshot()
		end := func(completed, failed int64) {
			time.Sleep(m.Config().Interval)
			client.stats.Classes = []interceptors.ClassStats{{
				Class: interceptors.ClassGet, Completed: completed,
				Failed: failed,
			}}
		}
		ratio := func() float64 { return m.Snapshot().Service("a").ErrorRatio }
		end(0, 1)
		require.Equal(t, 1.0, ratio())
		for range 11 {
			end(0, 1)
			require.Equal(t, 1.0, ratio())
		}
		end(0, 1)
		require.Zero(t, ratio())
		end(0, 2)
		require.Equal(t, 1.0, ratio(), "and is back with the next")
	})
}
