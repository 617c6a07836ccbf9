package health_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/topology"
)

// firing are the rules of which an alert fires that no other inhibits.
func firing(h *health.Health) (rules []string) {
	for _, a := range h.Alerts().Alerts() {
		if a.State == alert.Firing && a.Inhibited == "" {
			rules = append(rules, a.Rule)
		}
	}
	return rules
}

// TestAPoolThatConnectsToNothingIsUnhealthy: 0 of 0 connections is no share, and
// a server that refuses every connection is the worst that can become of a pool.
func TestAPoolThatConnectsToNothingIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, err := connpool.New("passthrough:///sink:8815", connpool.Config{
			Credentials: insecure.NewCredentials(),
			DialOptions: []grpc.DialOption{
				grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
					return nil, errors.New("connection refused")
				}),
			},
		})
		require.NoError(t, err)
		defer pool.Close()
		m := newMonitor(t, monitor.Config{})
		m.WatchPool("source", pool)
		h := newHealth(t, m, health.Config{})
		m.Start()
		defer m.Stop()
		pass(10 * time.Minute)
		require.Zero(t, pool.Stats().TotalConnections)
		require.Equal(t, []string{"ConnectionPoolUnhealthy"}, firing(h))
		r := h.Report()
		require.Equal(t, health.Unhealthy, r.Pools["sink:8815"].Health)
		require.Equal(t, health.Degraded, r.Status)
		require.Equal(t, []string{"pool_unhealthy sink:8815"}, codes(r))
		require.Contains(t, r.Summary, "0 of 1 connections working")
		w := httptest.NewRecorder()
		h.Handler(nil).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health", nil))
		require.Contains(t, w.Body.String(), `"status": "warn"`)
	})
}

// TestTheWorstStatesAreNotSilent goes through what the rules, the thresholds and
// the advice look at, where it is zero, absent or stale.
func TestTheWorstStatesAreNotSilent(t *testing.T) {
	pool := func(total, healthy, waiters int64) func(*monitor.Draft) {
		return func(d *monitor.Draft) {
			d.Service("a").Local = true
			p := d.Pool("b:1")
			p.Total, p.Healthy, p.Waiters, p.Limit = total, healthy, waiters, 10
		}
	}
	for name, test := range map[string]struct {
		collect func(*monitor.Draft)
		rules   []string
		codes   []string
	}{
		"nothing known of a pool":  {pool(0, 0, 0), nil, nil},
		"none for those that wait": {pool(0, 0, 3), []string{"ConnectionPoolUnhealthy"}, []string{"pool_unhealthy b:1"}},
		"none of one works":        {pool(1, 0, 0), []string{"ConnectionPoolUnhealthy"}, []string{"pool_unhealthy b:1"}},
		"none works and calls wait": {
			pool(4, 0, 3), []string{"ConnectionPoolUnhealthy"}, []string{"pool_unhealthy b:1"},
		},
		"a service that went silent, with its last figures": {func(d *monitor.Draft) {
			v := d.Service("a")
			v.Heartbeats, v.HeartbeatAge, v.Load, v.Health = true, time.Minute, 0.3, topology.HealthHealthy
		}, []string{"FlowctlHeartbeatStale"}, []string{"service_down a"}},
		"a service that went silent before it reported": {func(d *monitor.Draft) {
			v := d.Service("a")
			v.Heartbeats, v.HeartbeatAge = true, time.Minute
		}, []string{"FlowctlHeartbeatStale"}, []string{"service_down a"}},
		"everything fails": {func(d *monitor.Draft) {
			d.Service("a").ErrorRatio = 1
		}, []string{"FlowctlHighErrorRatio"}, []string{"service_high_errors a", "scale_errors a"}},
		"full, and nothing comes out": {func(d *monitor.Draft) {
			v := d.Service("a")
			v.Load, v.InFlight, v.Limit = 1, 10, 10
		}, []string{"FlowctlServiceSaturated"}, []string{"service_high_load a", "scale_load a"}},
		"backpressure at the smallest fraction": {func(d *monitor.Draft) {
			p := d.Pipeline()
			p.Active, p.Fraction = true, 0
			p.ActiveTime = time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
		}, []string{"FlowctlBackpressureStuck"}, []string{"backpressure_active ", "scale_backpressure "}},
		"connections lost over and over": {func(d *monitor.Draft) {
			since := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
			d.Service("a").Local = true
			d.Reconnections("a", "unreachable", uint64(since.Seconds()))
		}, []string{"FlowctlReconnectStorm"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := watched(t, monitortest.NewScript(test.collect))
				pass(20*time.Minute + time.Second/2)
				require.Equal(t, test.rules, firing(h))
				r := h.Report()
				require.Equal(t, test.codes, codes(r))
				if len(test.rules) > 0 {
					require.GreaterOrEqual(t, r.Status, health.Degraded, "an alert fires")
					require.NotContains(t, r.Summary, "normal parameters")
				}
			})
		})
	}
}
