package otelmonitor_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/otelmonitor"
)

// TestNoDeadlockWithTheSDK: a source wants a lock under which somebody makes
// instruments, which waits for the SDK's lock, which the callback's caller holds.
func TestNoDeadlockWithTheSDK(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	m, err := monitor.New(monitor.Config{Freshness: -1})
	require.NoError(t, err)
	var mu sync.Mutex
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		mu.Lock()
		defer mu.Unlock()
		d.Service("a").Local = true
	}))
	registration, err := otelmonitor.Register(m, provider)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			var data metricdata.ResourceMetrics
			_ = reader.Collect(t.Context(), &data) // with the source's lock held
		})
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			_, _ = provider.Meter("other").Int64Counter("x")
		})
	}
	wg.Go(func() { _ = registration.Close() })
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("deadlock")
	}
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	for _, scope := range data.ScopeMetrics {
		require.NotEqual(t, otelmonitor.Scope, scope.Scope.Name, "a closed registration exports nothing")
	}
}

func TestSeriesOfServicesThatLeftAreGone(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	m, err := monitor.New(monitor.Config{Freshness: -1})
	require.NoError(t, err)
	script := monitortest.NewScript(monitortest.Pipeline(3).Collect, monitortest.Pipeline(1).Collect)
	m.Watch(script)
	registration, err := otelmonitor.Register(m, provider)
	require.NoError(t, err)
	defer func() { require.NoError(t, registration.Close()) }()
	loads := func() int {
		var data metricdata.ResourceMetrics
		require.NoError(t, reader.Collect(t.Context(), &data))
		for _, scope := range data.ScopeMetrics {
			for _, metric := range scope.Metrics {
				if metric.Name == "flowctl.service.load" {
					return len(metric.Data.(metricdata.Gauge[float64]).DataPoints)
				}
			}
		}
		return 0
	}
	require.Equal(t, 3, loads())
	script.Next()
	require.Equal(t, 1, loads())
}

// TestAProviderTakesOneMonitor: the sums of two would double.
func TestAProviderTakesOneMonitor(t *testing.T) {
	provider := sdkmetric.NewMeterProvider()
	first, err := monitor.New(monitor.Config{})
	require.NoError(t, err)
	second, err := monitor.New(monitor.Config{})
	require.NoError(t, err)
	registration, err := otelmonitor.Register(first, provider)
	require.NoError(t, err)
	_, err = otelmonitor.Register(second, provider)
	require.ErrorIs(t, err, otelmonitor.ErrRegistered)
	require.NoError(t, registration.Close())
	registration, err = otelmonitor.Register(second, provider)
	require.NoError(t, err)
	require.NoError(t, registration.Close())
}
