package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/topology"
)

func get(t testing.TB, h http.Handler, path string) (int, string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	require.NoError(t, err)
	return w.Code, string(body), w.Header()
}

// TestLoadNeverFailsProbes: a pipeline under backpressure is alive and ready.
func TestLoadNeverFailsProbes(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	h := newHealth(t, m, health.Config{ServiceID: "sink-1", Version: "v1"})
	m.Watch(monitortest.Pipeline(3))
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		d.Service("far").Health = topology.HealthUnhealthy
		d.Service("near").Load = 1
	}))
	handler := h.Handler(nil)
	for _, path := range []string{"/livez", "/readyz"} {
		code, body, _ := get(t, handler, path)
		require.Equal(t, 200, code)
		require.Equal(t, "ok", body)
	}
	code, body, header := get(t, handler, "/health")
	require.Equal(t, 200, code, "a warning is no failure")
	require.Equal(t, "application/health+json", header.Get("Content-Type"))
	var doc health.Document
	require.NoError(t, json.Unmarshal([]byte(body), &doc))
	require.Equal(t, "warn", doc.Status)
	require.Equal(t, "sink-1", doc.ServiceID)
	require.Equal(t, "warn", doc.Checks["pipeline:backpressure"][0].Status)
}

// TestProbesDoNotWaitForASource: one that blocks is no reason to be restarted.
func TestProbesDoNotWaitForASource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{})
		h := newHealth(t, m, health.Config{})
		release := make(chan struct{})
		m.Watch(monitor.SourceFunc(func(*monitor.Draft) { <-release }))
		go m.Snapshot()
		synctest.Wait()
		for _, path := range []string{"/livez", "/readyz"} {
			code, _, _ := get(t, h.Handler(nil), path)
			require.Equal(t, 200, code)
		}
		close(release)
	})
}

func TestReadiness(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	h := newHealth(t, m, health.Config{})
	var broken error
	h.AddCheck("registered", func(context.Context) error { return nil })
	h.AddCheck("flight/server", func(context.Context) error { return broken })
	handler := h.Handler(nil)
	_, body, _ := get(t, handler, "/readyz?verbose")
	require.Equal(t, "[+]registered ok\n[+]flight-server ok\nreadyz check passed\n", body)

	broken = errors.New("secret address")
	code, body, _ := get(t, handler, "/readyz")
	require.Equal(t, 503, code)
	require.Contains(t, body, "[-]flight-server failed: reason withheld\n")
	require.NotContains(t, body, "secret")
	code, _, _ = get(t, handler, "/readyz/registered")
	require.Equal(t, 200, code)
	code, _, _ = get(t, handler, "/readyz/flight-server")
	require.Equal(t, 503, code)
	code, _, _ = get(t, handler, "/readyz/unknown")
	require.Equal(t, 404, code)
	code, _, _ = get(t, handler, "/readyz?exclude=flight-server&verbose")
	require.Equal(t, 200, code)
	code, _, _ = get(t, handler, "/health")
	require.Equal(t, 503, code)
	code, _, _ = get(t, handler, "/livez")
	require.Equal(t, 200, code, "alive all the same")
}

func TestHandlerAnywhere(t *testing.T) {
	m := newMonitor(t, monitor.Config{})
	h := newHealth(t, m, health.Config{})
	m.Watch(monitortest.Pipeline(2))
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") })
	mux := http.NewServeMux()
	mux.Handle("/", h.Handler(metrics))
	mux.Handle("/behind/a/prefix/", h.Handler(metrics))
	mux.Handle("/stripped/", http.StripPrefix("/stripped", h.Handler(metrics)))
	for _, prefix := range []string{"/", "/behind/a/prefix/", "/stripped/"} {
		for _, page := range []string{"metrics", "livez", "readyz", "health", "report", "history", "alerts"} {
			code, _, header := get(t, mux, prefix+page)
			require.Equal(t, 200, code, prefix+page)
			require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
		}
		code, _, _ := get(t, mux, prefix+"else")
		require.Equal(t, 404, code)
	}
	code, _, _ := get(t, h.Handler(nil), "/metrics")
	require.Equal(t, 404, code)
	w := httptest.NewRecorder()
	h.Handler(nil).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/report", nil))
	require.Equal(t, http.StatusMethodNotAllowed, w.Code)
	_, body, _ := get(t, h.Handler(nil), "/report")
	var r health.Report
	require.NoError(t, json.Unmarshal([]byte(body), &r))
	require.Equal(t, 2, r.Pipeline.TotalServices)
}

// TestHistoryOfHostileFigures is JSON all the same.
func TestHistoryOfHostileFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(t, monitor.Config{Interval: time.Second})
		h := newHealth(t, m, health.Config{})
		m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
			d.Pipeline().Throughput = math.Inf(1)
			d.Service("a").Load = 1e300
		}))
		m.Start()
		defer m.Stop()
		pass(time.Second)
		code, body, _ := get(t, h.Handler(nil), "/history")
		require.Equal(t, 200, code)
		var points []monitor.Point
		require.NoError(t, json.Unmarshal([]byte(body), &points))
		require.Len(t, points, 2)
	})
}

func TestGRPCHealthFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := grpchealth.NewServer()
		m := newMonitor(t, monitor.Config{Interval: time.Second})
		h := newHealth(t, m, health.Config{})
		script := monitortest.NewScript(load("own", 1), func(d *monitor.Draft) {
			load("own", 1)(d)
			d.Service("own").Health = topology.HealthUnhealthy
		}, load("own", 1))
		m.Watch(script)
		stop := h.ServeGRPC(server, "arrow.flight.protocol.FlightService")
		defer stop()
		m.Start()
		defer m.Stop()
		status := func(name string) healthpb.HealthCheckResponse_ServingStatus {
			answer, err := server.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
			require.NoError(t, err)
			return answer.GetStatus()
		}
		synctest.Wait()
		require.Equal(t, healthpb.HealthCheckResponse_SERVING, status(""))
		script.Next()
		pass(1500 * time.Millisecond)
		require.Equal(t, healthpb.HealthCheckResponse_SERVING, status(""), "one look may be wrong")
		pass(time.Second)
		require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, status(""))
		require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, status("arrow.flight.protocol.FlightService"))
		script.Next()
		pass(3 * time.Second)
		require.Equal(t, healthpb.HealthCheckResponse_SERVING, status(""))
		server.Shutdown()
		pass(3 * time.Second)
		require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, status(""))
	})
}
