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

func (r *receiver) Export(
	_ context.Context,
	request *collector.ExportMetricsServiceRequest,
) (*collector.ExportMetricsServiceResponse, error) {
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

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	exporter, err := otlpmetricgrpc.New(
		ctx,
		otlpmetricgrpc.WithEndpoint(listener.Addr().String()),
		otlpmetricgrpc.WithInsecure(),
	)
	require.NoError(t, err)
	provider := sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(time.Hour))),
	)
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
	// arrived returns the instrument's data: as many points as there are samples.
	arrived := func(name, unit, help string) *metrics.Metric {
		got := received.metrics[name]
		require.NotNil(t, got, "%s did not arrive", name)
		require.Equal(t, unit, got.GetUnit(), name)
		require.Equal(t, help, got.GetDescription(), name)
		return got
	}
	for _, f := range m.Families() {
		var samples []monitor.Sample
		f.Collect(m.Snapshot(), func(v monitor.Sample) { samples = append(samples, v) })
		switch {
		case f.Legacy:
			require.Empty(t, f.OTel)
			continue
		case f.Name == "flowctl_alerts": // it has nothing to say before the monitor is started
			require.Empty(t, samples)
			require.NotContains(t, received.metrics, f.OTel)
			continue
		}
		require.NotEmpty(t, samples, f.Name)
		switch {
		case f.Kind == monitor.Gauge:
			require.Len(t, arrived(f.OTel, f.Unit, f.Help).GetGauge().GetDataPoints(), len(samples), f.OTel)
		case f.Kind == monitor.UpDown:
			sum := arrived(f.OTel, f.Unit, f.Help).GetSum()
			require.False(t, sum.GetIsMonotonic(), f.OTel)
			require.Len(t, sum.GetDataPoints(), len(samples), f.OTel)
		case f.Kind == monitor.Counter:
			sum := arrived(f.OTel, f.Unit, f.Help).GetSum()
			require.True(t, sum.GetIsMonotonic(), f.OTel)
			require.Len(t, sum.GetDataPoints(), len(samples), f.OTel)
		case f.Observed:
			points := arrived(f.OTel, f.Unit, f.Help).GetHistogram().GetDataPoints()
			require.Len(t, points, 1)
			require.Equal(t, monitor.DurationBounds(), points[0].GetExplicitBounds())
			require.Equal(t, samples[0].Histogram.Counts, points[0].GetBucketCounts())
		default:
			for part, unit := range map[string]string{".bucket": "", ".sum": f.Unit, ".count": ""} {
				sum := arrived(f.OTel+part, unit, f.Help).GetSum()
				require.False(t, sum.GetIsMonotonic(), "the name of a monotonic sum ends in _total")
				require.Equal(t, metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE, sum.GetAggregationTemporality())
				want := len(samples)
				if part == ".bucket" {
					want *= len(monitor.DurationBounds()) + 1
				}
				require.Len(t, sum.GetDataPoints(), want, f.OTel+part)
			}
			got := 0.0
			for _, point := range received.metrics[f.OTel+".sum"].GetSum().GetDataPoints() {
				got += point.GetAsDouble()
			}
			want := 0.0
			for _, v := range samples {
				want += v.Histogram.Sum
			}
			require.Equal(t, want, got, f.OTel)
		}
	}
	require.Greater(t, len(received.metrics), 50)
}
