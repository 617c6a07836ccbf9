package otelmonitor_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/otelmonitor"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
)

// flatten makes one line a value of what a registry gathers.
func flatten(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	lines := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			name := fmt.Sprintf("%s %s {%s}", f.GetType(), f.GetName(), strings.Join(labels, ","))
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				lines[name] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				lines[name] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				lines[name+" count"], lines[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				for _, b := range h.GetBucket() {
					lines[fmt.Sprintf("%s le %g", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return lines
}

// faces gathers one monitor through both faces.
func faces(t *testing.T, m *monitor.Monitor, during func()) (prom, otel map[string]float64) {
	t.Helper()
	scraped, pushed := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	scraped.MustRegister(prommonitor.NewCollector(m))
	exporter, err := otelprom.New(otelprom.WithRegisterer(pushed), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	require.NoError(t, err)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	registration, err := otelmonitor.Register(m, provider)
	require.NoError(t, err)
	if during != nil {
		during()
	}
	prom, otel = flatten(t, scraped), flatten(t, pushed)
	require.NoError(t, registration.Close())
	require.NoError(t, registration.Close())
	return prom, otel
}

// TestFacesAgree compares both faces value by value, in an ordinary pipeline
// and beyond the bound on services.
func TestFacesAgree(t *testing.T) {
	for name, services := range map[string]int{"pipeline": 3, "beyond the bound": 12} {
		t.Run(name, func(t *testing.T) {
			m, err := monitor.New(monitor.Config{Freshness: time.Hour, MaxServices: 10})
			require.NoError(t, err)
			m.Watch(monitortest.Pipeline(services))
			prom, otel := faces(t, m, func() {
				m.ObserveDiscovery(t.Context(), 3*time.Millisecond)
				m.ObserveDiscovery(t.Context(), 2*time.Second)
			})
			alias := "GAUGE flowctl_pipeline_throughput_total {}"
			require.Contains(t, prom, alias)
			delete(prom, alias)
			// Histograms that others observe have no OpenTelemetry twin.
			maps.DeleteFunc(prom, func(name string, _ float64) bool {
				return strings.Contains(name, "flowctl_service_admission_wait_seconds") || strings.Contains(name, "flowctl_pool_acquire_wait_seconds")
			})
			require.Equal(t, prom, otel)
			require.Greater(t, len(prom), 100)
		})
	}
}
