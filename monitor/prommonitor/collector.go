package prommonitor

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/withobsrvr/sluice/monitor"
)

// Collector exports a monitor's families as constant metrics.
type Collector struct {
	monitor  *monitor.Monitor
	families []family
	began    time.Time
}

type family struct {
	*monitor.Family
	desc *prometheus.Desc
	kind prometheus.ValueType
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns the collector of m's families. Register it where the
// program's metrics are.
func NewCollector(m *monitor.Monitor) *Collector {
	c := &Collector{monitor: m, began: time.Now()}
	for _, f := range m.Families() {
		kind := prometheus.GaugeValue
		if f.Kind == monitor.Counter {
			kind = prometheus.CounterValue
		}
		c.families = append(c.families, family{f, prometheus.NewDesc(f.Name, f.Help, f.Labels, nil), kind})
	}
	return c
}

// Describe sends the descriptor of every family.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for i := range c.families {
		out <- c.families[i].desc
	}
}

// Collect sends the metrics of one snapshot.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	s := c.monitor.Snapshot()
	for i := range c.families {
		f := &c.families[i]
		f.Collect(s, func(v monitor.Sample) { out <- f.metric(v) })
	}
}

func (f *family) metric(v monitor.Sample) prometheus.Metric {
	labels := v.Labels[:len(f.Labels)]
	if v.Histogram != nil {
		return f.histogram(v.Histogram, labels)
	}
	m, err := prometheus.NewConstMetric(f.desc, f.kind, v.Value, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(f.desc, err)
	}
	return m
}

func (f *family) histogram(h *monitor.Histogram, labels []string) prometheus.Metric {
	buckets, total := make(map[float64]uint64, len(h.Bounds)), uint64(0)
	for i, bound := range h.Bounds {
		total += h.Counts[i]
		buckets[bound] = total
	}
	total += h.Counts[len(h.Bounds)]
	m, err := prometheus.NewConstHistogram(f.desc, total, h.Sum, buckets, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(f.desc, err)
	}
	var exemplars []prometheus.Exemplar
	for _, e := range h.Exemplars {
		if e.TraceID != "" {
			exemplars = append(exemplars, prometheus.Exemplar{Value: e.Value, Labels: prometheus.Labels{"trace_id": e.TraceID}, Timestamp: e.Time})
		}
	}
	if exemplars == nil {
		return m
	}
	with, err := prometheus.NewMetricWithExemplars(m, exemplars...)
	if err != nil { // a trace id that is too long for one
		return m
	}
	return with
}
