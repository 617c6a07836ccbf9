package otlp_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/otelmonitor"
)

// receiver is an OTLP endpoint that keeps what it gets.
type receiver struct {
	collector.UnimplementedMetricsServiceServer

	mu      sync.Mutex
	metrics map[string]*metrics.Metric
}

func (r *receiver) Export(_ context.Context, request *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range request.GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			if scope.GetScope().GetName() != otelmonitor.Scope {
				continue
			}
			for _, m := range scope.GetMetrics() {
				r.metrics[m.GetName()] = m
			}
		}
	}
	return &collector.ExportMetricsServiceResponse{}, nil
}

func TestFamiliesArriveOverOTLP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	received := &receiver{metrics: map[string]*metrics.Metric{}}
	server := grpc.NewServer()
	collector.RegisterMetricsServiceServer(server, received)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	exporter, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpoint(listener.Addr().String()), otlpmetricgrpc.WithInsecure())
	require.NoError(t, err)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(time.Hour))))
	m, err := monitor.New(monitor.Config{})
	require.NoError(t, err)
	m.Watch(monitortest.Pipeline(3))
	registration, err := otelmonitor.Register(m, provider)
	require.NoError(t, err)
	m.ObserveDiscovery(ctx, 3*time.Millisecond)
	require.NoError(t, provider.ForceFlush(ctx))
	require.NoError(t, registration.Close())
	require.NoError(t, provider.Shutdown(ctx))

	received.mu.Lock()
	defer received.mu.Unlock()
	for _, f := range m.Families() {
		samples := 0
		f.Collect(m.Snapshot(), func(monitor.Sample) { samples++ })
		onlyInPrometheus := f.Kind == monitor.Distribution && f.Name != "flowctl_service_discovery_duration_seconds"
		if f.OTel == "" || samples == 0 || onlyInPrometheus {
			require.NotContains(t, received.metrics, f.OTel)
			continue
		}
		got := received.metrics[f.OTel]
		require.NotNil(t, got, "%s did not arrive", f.OTel)
		require.Equal(t, f.Unit, got.GetUnit(), f.OTel)
		require.Equal(t, f.Help, got.GetDescription(), f.OTel)
		var points int
		switch f.Kind {
		case monitor.Gauge:
			points = len(got.GetGauge().GetDataPoints())
		case monitor.UpDown:
			require.False(t, got.GetSum().GetIsMonotonic(), f.OTel)
			points = len(got.GetSum().GetDataPoints())
		case monitor.Counter:
			require.True(t, got.GetSum().GetIsMonotonic(), f.OTel)
			points = len(got.GetSum().GetDataPoints())
		case monitor.Distribution:
			points = len(got.GetHistogram().GetDataPoints())
			require.Equal(t, monitor.DurationBounds(), got.GetHistogram().GetDataPoints()[0].GetExplicitBounds())
			samples = 1
		}
		require.Equal(t, samples, points, f.OTel)
	}
	require.Greater(t, len(received.metrics), 50)
}
