package prommonitor_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
)

func newMonitor(t testing.TB, cfg monitor.Config, source monitor.Source) *monitor.Monitor {
	t.Helper()
	m, err := monitor.New(cfg)
	require.NoError(t, err)
	if source != nil {
		m.Watch(source)
	}
	return m
}

func scrape(t testing.TB, h http.Handler, accept string) (string, http.Header) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
	return w.Body.String(), w.Header()
}

func handler(t testing.TB, m *monitor.Monitor, registry *prometheus.Registry) http.Handler {
	t.Helper()
	h, err := prommonitor.NewHandler(m, prommonitor.HandlerConfig{Registry: registry})
	require.NoError(t, err)
	return h
}

// allowed is the one thing that the lint may find: the deprecated alias.
var allowed = promlint.Problem{
	Metric: "flowctl_pipeline_throughput_total",
	Text:   `non-counter metrics should not have "_total" suffix`,
}

func TestLintFindsTheAliasOnly(t *testing.T) {
	for noLegacy, want := range map[bool][]promlint.Problem{false: {allowed}, true: nil} {
		m := newMonitor(t, monitor.Config{NoLegacy: noLegacy}, monitortest.Pipeline(3))
		m.ObserveDiscovery(t.Context(), time.Millisecond)
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(prommonitor.NewCollector(m))
		problems, err := testutil.GatherAndLint(registry)
		require.NoError(t, err)
		require.Equal(t, want, problems)
	}
}

func TestPromtoolCheckMetrics(t *testing.T) {
	promtool := testenv.Require(t, "promtool", "prometheus")
	m := newMonitor(t, monitor.Config{NoLegacy: true}, monitortest.Pipeline(3))
	m.ObserveDiscovery(t.Context(), time.Millisecond)
	check := func(m *monitor.Monitor) (string, error) {
		text, _ := scrape(t, handler(t, m, prometheus.NewRegistry()), "")
		command := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		command.Stdin = strings.NewReader(text)
		out, err := command.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	out, err := check(m)
	require.NoError(t, err, out)
	require.Empty(t, out)
	out, err = check(newMonitor(t, monitor.Config{}, monitortest.Pipeline(3)))
	require.Error(t, err)
	require.Equal(t, allowed.Metric+" "+allowed.Text, out)
}

// TestNamesOfTheHandbook: every name that users have in dashboards and rules.
func TestNamesOfTheHandbook(t *testing.T) {
	m := newMonitor(t, monitor.Config{}, monitortest.Pipeline(3))
	m.ObserveDiscovery(t.Context(), time.Millisecond)
	text, _ := scrape(t, handler(t, m, nil), "")
	for _, series := range []string{
		"flowctl_pipeline_throughput_total 2500", "flowctl_pipeline_latency_seconds 0.12", "flowctl_backpressure_active 1",
		"flowctl_throttle_rate 0.6",
		`flowctl_service_load_ratio{service_id="service-002",service_type="sink"} 0.5`,
		`flowctl_service_connections{endpoint="service-001:8815",service_id="service-002"} 2`,
		`flowctl_service_discovery_duration_seconds_bucket{le="0.001"} 1`,
		`flowctl_reconnection_events_total{reason="unreachable",service_id="service-002"} 1`,
		`flowctl_reconnection_events_total{reason="goaway",service_id="service-002"} 0`,
		`flowctl_pool_total_connections{endpoint="service-001:8815"} 3`,
		`flowctl_pool_healthy_connections{endpoint="service-001:8815"} 2`,
		`flowctl_pool_idle_connections{endpoint="service-001:8815"} 1`,
		`flowctl_service_throughput{service_id="service-000"} 2500`,
		`flowctl_service_queue_depth{service_id="service-002"} 2`,
	} {
		require.Contains(t, text, "\n"+series+"\n")
	}
	require.Contains(t, text, "go_goroutines")
	require.Contains(t, text, "process_")
}

// TestPipelineFamiliesAlwaysEmit: a decider without services has the pipeline's
// families, and who does not decide has none.
func TestPipelineFamiliesAlwaysEmit(t *testing.T) {
	decider := newMonitor(t, monitor.Config{}, monitor.SourceFunc(func(d *monitor.Draft) { d.Pipeline() }))
	require.NoError(t, testutil.CollectAndCompare(prommonitor.NewCollector(decider), strings.NewReader(`
# HELP flowctl_backpressure_active 1 while the pipeline is under backpressure, else 0.
# TYPE flowctl_backpressure_active gauge
flowctl_backpressure_active 0
# HELP flowctl_throttle_rate The fraction of the offered work that the pipeline lets through: 1 is all of it.
# TYPE flowctl_throttle_rate gauge
flowctl_throttle_rate 1
`), "flowctl_backpressure_active", "flowctl_throttle_rate"))
	require.Equal(t, 1, testutil.CollectAndCount(prommonitor.NewCollector(newMonitor(t, monitor.Config{}, nil))))
}

func TestStaleSeriesVanish(t *testing.T) {
	script := monitortest.NewScript(monitortest.Pipeline(3).Collect, monitortest.Pipeline(1).Collect)
	m := newMonitor(t, monitor.Config{Freshness: -1}, script)
	c := prommonitor.NewCollector(m)
	require.Equal(t, 3, testutil.CollectAndCount(c, "flowctl_service_load_ratio"))
	script.Next()
	require.Equal(t, 1, testutil.CollectAndCount(c, "flowctl_service_load_ratio"))
}

func TestTwoMonitorsOnOneRegistry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	a, b := newMonitor(t, monitor.Config{}, monitortest.Pipeline(1)), newMonitor(t, monitor.Config{},
		monitortest.Pipeline(2))
	handler(t, a, registry)
	_, err := prommonitor.NewHandler(b, prommonitor.HandlerConfig{Registry: registry})
	require.ErrorAs(t, err, new(prometheus.AlreadyRegisteredError))

	registry = prometheus.NewPedanticRegistry()
	for name, m := range map[string]*monitor.Monitor{"a": a, "b": b} {
		require.NoError(t, prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": name},
			registry).Register(prommonitor.NewCollector(m)))
	}
	n, err := testutil.GatherAndCount(registry, "flowctl_service_load_ratio")
	require.NoError(t, err)
	require.Equal(t, 3, n)
}

func TestOpenMetricsWithExemplars(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	m := newMonitor(t, monitor.Config{TraceID: func(_ context.Context) string { return id }}, nil)
	m.ObserveDiscovery(t.Context(), 3*time.Millisecond)
	text, header := scrape(t, handler(t, m, nil), "application/openmetrics-text;version=1.0.0")
	require.Contains(t, header.Get("Content-Type"), "application/openmetrics-text")
	require.Contains(t, text,
		`flowctl_service_discovery_duration_seconds_bucket{le="0.004"} 1 # {trace_id="`+id+`"} 0.003`)
	require.True(t, strings.HasSuffix(text, "# EOF\n"))
}

// TestMemoryIsFlat: scrapes leave nothing behind.
func TestMemoryIsFlat(t *testing.T) {
	m := newMonitor(t, monitor.Config{Freshness: -1}, monitortest.Pipeline(1))
	registry := prometheus.NewRegistry()
	registry.MustRegister(prommonitor.NewCollector(m))
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	run := func(n int) {
		for range n {
			_, err := registry.Gather()
			require.NoError(t, err)
		}
	}
	run(200)
	before := heap()
	run(10_000)
	require.Less(t, heap(), before+512<<10)
}
