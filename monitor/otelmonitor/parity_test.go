package otelmonitor_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/otelmonitor"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
)

// flatten makes one line a series of what a registry gathers. The parts of a
// histogram are series like any other, as they are for who stores them: whether
// they were declared as one histogram or as three sums is no difference here.
func flatten(t *testing.T, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	require.NoError(t, err)
	lines := map[string]float64{}
	for _, f := range families {
		kind := f.GetType().String()
		if row := monitor.FamilyOf(f.GetName()); row != nil && row.Kind == monitor.Distribution {
			kind = "PART"
		}
		for _, m := range f.GetMetric() {
			line := func(part string, value float64, more ...string) {
				labels := more
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
				slices.Sort(labels)
				name := fmt.Sprintf("%s %s%s {%s}", kind, f.GetName(), part, strings.Join(labels, ","))
				require.NotContains(t, lines, name)
				lines[name] = value
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				line("", m.GetCounter().GetValue())
			case dto.MetricType_GAUGE:
				line("", m.GetGauge().GetValue())
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				line("_count", float64(h.GetSampleCount()))
				line("_sum", h.GetSampleSum())
				for _, b := range h.GetBucket() {
					if !math.IsInf(b.GetUpperBound(), 1) {
						line("_bucket", float64(b.GetCumulativeCount()), fmt.Sprintf("le=%g", b.GetUpperBound()))
					}
				}
				line("_bucket", float64(h.GetSampleCount()), "le=+Inf") // implied, and written by each exposition
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
	exporter, err := otelprom.New(otelprom.WithRegisterer(pushed), otelprom.WithoutScopeInfo(),
		otelprom.WithoutTargetInfo())
	require.NoError(t, err)
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	registration, err := otelmonitor.Register(m, provider)
	require.NoError(t, err)
	during()
	prom, otel = flatten(t, scraped), flatten(t, pushed)
	require.NoError(t, registration.Close())
	require.NoError(t, registration.Close())
	return prom, otel
}

// TestFacesAgree compares both faces value by value, every family of the table,
// in an ordinary pipeline and beyond the bounds.
func TestFacesAgree(t *testing.T) {
	for name, services := range map[string]int{"pipeline": 3, "beyond the bounds": 12} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := monitor.New(monitor.Config{Freshness: time.Hour, MaxServices: 10, MaxPools: 5})
				require.NoError(t, err)
				m.Watch(monitortest.Pipeline(services))
				alerts, err := alert.New(alert.Config{})
				require.NoError(t, err)
				alerts.Watch(m)
				prom, otel := faces(t, m, func() {
					m.ObserveDiscovery(t.Context(), 3*time.Millisecond)
					m.ObserveDiscovery(t.Context(), 2*time.Second)
					m.Start() // the second look sees the alerts of the first
					time.Sleep(m.Config().Interval)
					synctest.Wait()
					m.Stop()
				})
				for _, f := range m.Families() {
					name := " " + f.Name + " {"
					if f.Kind == monitor.Distribution {
						name = " " + f.Name + "_bucket {"
					}
					require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(prom)),
						func(line string) bool { return strings.Contains(line, name) }), "%s is not compared", f.Name)
				}
				alias := "GAUGE flowctl_pipeline_throughput_total {}"
				require.Contains(t, prom, alias)
				delete(prom, alias)
				require.Equal(t, prom, otel)
				require.Greater(t, len(prom), 100)
			})
		})
	}
}

// TestBothFacesOnOneRegistry is refused aloud, as the documentation says.
func TestBothFacesOnOneRegistry(t *testing.T) {
	m, err := monitor.New(monitor.Config{Freshness: time.Hour})
	require.NoError(t, err)
	m.Watch(monitortest.Pipeline(2))
	m.Snapshot() // the faces collect at once, and OpenTelemetry's does not wait for one that is being built
	registry := prometheus.NewRegistry()
	registry.MustRegister(prommonitor.NewCollector(m))
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	require.NoError(t, err)
	registration, err := otelmonitor.Register(m, sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter)))
	require.NoError(t, err)
	_, err = registry.Gather()
	require.ErrorContains(t, err, "flowctl_service_admission_wait_seconds")
	require.NoError(t, registration.Close())
}
