package health_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/topology"
)

func reportOf(t testing.TB, collect func(*monitor.Draft)) health.Report {
	t.Helper()
	m := newMonitor(t, monitor.Config{})
	m.Watch(monitor.SourceFunc(collect))
	return newHealth(t, m, health.Config{}).Report()
}

func codes(r health.Report) (list []string) {
	for _, advice := range r.Recommendations {
		list = append(list, advice.Code+" "+advice.Service+advice.Endpoint)
	}
	return list
}

// TestReportOfNothing: no NaN, no "healthy" without a service, no recommendation.
func TestReportOfNothing(t *testing.T) {
	r := reportOf(t, monitortest.Nothing)
	require.Equal(t, health.Unknown, r.Status)
	require.Zero(t, r.Pipeline.HealthRatio)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	for _, key := range []string{"pipeline_health", "performance", "flow_control", "services", "recommendations"} {
		require.Contains(t, string(text), `"`+key+`"`)
	}
	require.Contains(t, string(text), `"recommendations":[]`)
	require.NotContains(t, string(text), "NaN")
	var back health.Report
	require.NoError(t, json.Unmarshal(text, &back))
}

func TestReportOfAHealthyPipeline(t *testing.T) {
	r := reportOf(t, func(d *monitor.Draft) {
		d.Pipeline().Throughput = 100
		d.Service("a").Load = 0.5
	})
	require.Equal(t, health.Healthy, r.Status)
	require.Equal(t, "Pipeline is operating within normal parameters.", r.Summary)
	require.Empty(t, r.Recommendations)
}

func TestRecommendationsAtTheirThresholds(t *testing.T) {
	exactly := func(d *monitor.Draft) {
		d.Pipeline().Latency = 5 * time.Second
		v := d.Service("a")
		v.Load, v.ErrorRatio = 0.80, 0.05
	}
	require.Empty(t, codes(reportOf(t, exactly)), "at a threshold is not above it")
	r := reportOf(t, func(d *monitor.Draft) {
		p := d.Pipeline()
		p.Latency, p.Active, p.Load, p.ActivateAt = 5001*time.Millisecond, true, 0.85, 0.8
		v := d.Service("a")
		v.Load, v.ErrorRatio = 0.85, 0.051
		d.Service("gone").Health = topology.HealthUnhealthy
		pool := d.Pool("b:1")
		pool.Total, pool.Healthy, pool.Limit = 4, 1, 10
		full := d.Pool("c:1")
		full.Total, full.Healthy, full.Limit, full.Waiters = 10, 10, 10, 3
	})
	require.Equal(t, []string{
		"service_high_errors a", "service_down gone", "backpressure_active ", "pipeline_high_latency ", "service_high_load a",
		"pool_unhealthy b:1", "pool_saturated c:1",
	}, codes(r))
	require.Equal(t, "Service a has elevated error rate (5.1%). Investigate logs.", r.Recommendations[0].Text)
	require.Contains(t, r.Recommendations[2].Text, "Consider scaling up downstream services")
	require.Equal(t, "a", r.Recommendations[2].Cause)
	require.Equal(t, health.Evidence{Metric: "flowctl_pipeline_load_ratio", Value: 0.85, Threshold: 0.8},
		r.Recommendations[2].Evidence)
	require.Contains(t, r.Recommendations[3].Text, "Check for bottlenecks in the pipeline.")
	require.Contains(t, r.Recommendations[4].Text, "Service a is at 85.0% capacity, consider scaling")
	for _, advice := range r.Recommendations {
		require.NotNil(t, monitor.FamilyOf(advice.Evidence.Metric), advice.Code)
	}
	require.Equal(t, 0.5, r.Pipeline.HealthRatio)
	require.Equal(t, health.Degraded, r.Status)
}

// TestRootCause: of a chain that has filled up, only the last is named.
func TestRootCause(t *testing.T) {
	chain := func(loads ...float64) func(*monitor.Draft) {
		return func(d *monitor.Draft) {
			for i, load := range loads {
				v := d.Service(monitortest.ID(i))
				v.Load = load
				if i > 0 {
					v.Upstreams = []string{monitortest.ID(i - 1)}
				}
			}
		}
	}
	r := reportOf(t, chain(0.99, 0.95, 0.9))
	require.Equal(t, "service-002", r.Bottleneck.Node)
	require.Equal(t, []string{"service-000", "service-001"}, r.Bottleneck.HoldsUp)
	require.Equal(t, []string{"service_high_load service-002"}, codes(r))

	r = reportOf(t, chain(0.99, 0.95, 0.1))
	require.Equal(t, "service-001", r.Bottleneck.Node, "what follows it is not loaded")

	r = reportOf(t, func(d *monitor.Draft) { // an edge that blocks leads to a root that looks idle
		chain(0.9, 0.2)(d)
		d.Edge("service-000", "service-001").BlockedRatio = 0.9
	})
	require.Equal(t, "service-001", r.Bottleneck.Node)
	require.Equal(t, []string{"service-000"}, r.Bottleneck.HoldsUp)

	r = reportOf(t, func(d *monitor.Draft) { // a cycle, and another that is loaded on its own
		d.Service("a").Load, d.Service("b").Load = 0.9, 0.95
		d.Service("a").Upstreams, d.Service("b").Upstreams = []string{"b"}, []string{"a"}
		d.Service("z").Load = 0.85
	})
	require.Equal(t, "b", r.Bottleneck.Node)
	require.Equal(t, []string{"service_high_load b", "service_high_load z"}, codes(r))
}

// TestThePageAndTheReportNameOneBottleneck, also for what one of them used to
// overlook: a little blocking, and a load between two thresholds.
func TestThePageAndTheReportNameOneBottleneck(t *testing.T) {
	status := func(load float64) topology.Status {
		return topology.Status{Health: topology.HealthHealthy, Load: load}
	}
	inputs := map[string]*topology.Graph{"little blocked": {
		Nodes: []topology.Node{{ID: "sink", Status: status(0.5)}, {ID: "source", Status: status(0.4)}},
		Edges: []topology.Edge{{From: "source", To: "sink", State: topology.StateConnected, Blocked: 0.15}},
	}, "below the activation": {
		Pipeline: topology.Pipeline{Activate: 0.90},
		Nodes: []topology.Node{
			{ID: "sink", Status: status(0.85), Upstreams: []string{"source"}},
			{ID: "source", Status: status(0.3)},
		},
	}}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 200 {
		g := &topology.Graph{Pipeline: topology.Pipeline{Activate: []float64{0, 0.7, 0.9}[i%3]}}
		for n := range 5 {
			g.Nodes = append(g.Nodes, topology.Node{ID: monitortest.ID(n), Status: status(r.Float64())})
			g.Edges = append(g.Edges, topology.Edge{
				From: monitortest.ID(r.IntN(5)), To: monitortest.ID(n), State: topology.StateConnected,
				Blocked: max(0, r.Float64()-0.7),
			})
		}
		inputs[fmt.Sprint("random ", i)] = g
	}
	for name, g := range inputs {
		page := g.Normalize().Bottleneck
		watching := newMonitor(t, monitor.Config{})
		watching.WatchTopology(topology.SourceFunc(func() *topology.Graph { return g }))
		require.Equal(t, page, newHealth(t, watching, health.Config{}).Report().Bottleneck, name)
		alone := reportOf(t, func(d *monitor.Draft) {
			if g.Pipeline.Activate > 0 {
				d.Pipeline().ActivateAt = g.Pipeline.Activate
			}
			for _, n := range g.Nodes {
				v := d.Service(n.ID)
				v.Load, v.Upstreams = n.Load, n.Upstreams
			}
			for _, e := range g.Edges {
				d.Edge(e.From, e.To).BlockedRatio = e.Blocked
			}
		})
		require.Equal(t, page, alone.Bottleneck, name)
	}
}

// TestScalingTriggers: they need their whole time, and name the root.
func TestScalingTriggers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := monitortest.NewScript(func(d *monitor.Draft) {
			p := d.Pipeline()
			p.Active, p.Latency = true, 11*time.Second
			v := d.Service("sink")
			v.Load, v.ErrorRatio = 0.81, 0.11
		}, monitortest.Nothing)
		h := watched(t, script)
		scaling := func() (list []string) {
			for _, advice := range h.Report().Recommendations {
				if advice.Code[:6] == "scale_" {
					list = append(list, advice.Code)
					require.Equal(t, "sink", advice.Cause)
				}
			}
			return list
		}
		pass(30 * time.Second)
		require.Equal(t, []string{"scale_latency"}, scaling())
		pass(time.Minute)
		require.Equal(t, []string{"scale_errors", "scale_latency"}, scaling())
		pass(time.Minute)
		require.Equal(t, []string{"scale_errors", "scale_backpressure", "scale_latency"}, scaling())
		pass(3 * time.Minute)
		require.Equal(t, []string{"scale_errors", "scale_load", "scale_backpressure", "scale_latency"}, scaling())
		script.Next()
		pass(2 * time.Second)
		require.Empty(t, scaling())
	})
}

// TestTheWorstStateIsSaid: nothing works at all, everything is rejected, a
// service is down. Each is a state in which a share could be taken of nothing.
func TestTheWorstStateIsSaid(t *testing.T) {
	refused := errors.New("connection refused")
	for name, c := range map[string]struct {
		watch         func(m *monitor.Monitor)
		advice, alert string
		status        health.Status
		silent        bool
	}{
		"no connection can be made": {
			watch: func(m *monitor.Monitor) {
				m.WatchPools("a", pools{{Endpoint: "b:1", MaxConnections: 10, LastError: refused}})
			},
			advice: "pool_unhealthy b:1", alert: "ConnectionPoolUnhealthy", status: health.Degraded,
		},
		"calls wait for a first connection": {
			watch:  func(m *monitor.Monitor) { m.WatchPools("a", pools{{Endpoint: "b:1", MaxConnections: 10, Waiting: 3}}) },
			advice: "pool_unhealthy b:1", alert: "ConnectionPoolUnhealthy", status: health.Degraded,
		},
		"a pool that nobody uses": {
			watch:  func(m *monitor.Monitor) { m.WatchPools("a", pools{{Endpoint: "b:1", MaxConnections: 10}}) },
			silent: true, status: health.Healthy,
		},
		"every call is rejected": {
			watch: func(m *monitor.Monitor) {
				server, n := &calls{}, int64(0)
				m.Watch(monitor.SourceFunc(func(*monitor.Draft) {
					n += 100
					server.stats.Rejections = []interceptors.Rejection{{
						Class:  interceptors.ClassGet,
						Reason: interceptors.ReasonActiveStreams, Count: n,
					}}
					server.stats.Tenants = []interceptors.TenantStats{{Tenant: "t", Rejected: n}}
				}))
				m.WatchServer("a", server)
			},
			advice: "service_shedding a", alert: "FlowctlShedding", status: health.Degraded,
		},
		"a service that says it is unhealthy": {
			watch: func(m *monitor.Monitor) {
				m.Watch(monitor.SourceFunc(func(d *monitor.Draft) { d.Service("a").Health = topology.HealthUnhealthy }))
			},
			advice: "service_down a", alert: "FlowctlServiceUnhealthy", status: health.Unhealthy,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMonitor(t, monitor.Config{})
				c.watch(m)
				h := newHealth(t, m, health.Config{})
				m.Start()
				defer m.Stop()
				pass(5 * time.Minute)
				r := h.Report()
				require.Equal(t, c.status, r.Status)
				if c.silent {
					require.Empty(t, r.Recommendations)
					require.Empty(t, r.Alerts)
					return
				}
				require.Contains(t, codes(r), c.advice)
				require.NotEmpty(t, r.Alerts)
				require.Equal(t, c.alert, r.Alerts[0].Rule)
				require.Equal(t, alert.Firing, r.Alerts[0].State)
			})
		})
	}
}
