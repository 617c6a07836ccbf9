package prommonitor

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/withobsrvr/sluice/monitor"
)

// Collector exports a monitor's families as constant metrics.
type Collector struct {
	monitor  *monitor.Monitor
	families []family

	mu    sync.Mutex // guards what follows, never held while sending
	pairs map[key]*pairs
	round uint64
	count int // of the last collection
}

type family struct {
	*monitor.Family
	desc *prometheus.Desc
}

// The label pairs of a series are made once and used by each scrape; those of
// series that have gone are forgotten at the next.
type pairs struct {
	list  []*dto.LabelPair
	round uint64
}

type key struct {
	family int
	labels [monitor.MaxLabels]string
}

var _ prometheus.Collector = (*Collector)(nil)

// NewCollector returns the collector of m's families. Register it where the
// program's metrics are.
func NewCollector(m *monitor.Monitor) *Collector {
	c := &Collector{monitor: m, pairs: map[key]*pairs{}}
	for _, f := range m.Families() {
		c.families = append(c.families, family{f, prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)})
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
	scalars, others := c.read(s)
	for i := range scalars {
		out <- &scalars[i]
	}
	for _, m := range others {
		out <- m
	}
}

func (c *Collector) read(s *monitor.Snapshot) (scalars []scalar, others []prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	scalars = make([]scalar, 0, c.count+c.count/8)
	for i := range c.families {
		f := &c.families[i]
		f.Collect(s, func(v monitor.Sample) {
			if v.Histogram != nil {
				others = append(others, f.histogram(v.Histogram, v.Labels[:len(f.Labels)]))
				return
			}
			k := key{i, v.Labels}
			p := c.pairs[k]
			if p == nil {
				p = &pairs{list: slices.Clip(prometheus.MakeLabelPairs(f.desc, v.Labels[:len(f.Labels)]))}
				c.pairs[k] = p
			}
			p.round = c.round
			scalars = append(scalars, scalar{desc: f.desc, pairs: p.list, value: v.Value, counter: f.Kind == monitor.Counter})
		})
	}
	for k, p := range c.pairs {
		if p.round != c.round {
			delete(c.pairs, k)
		}
	}
	c.count = len(scalars)
	return scalars, others
}

// scalar is a constant metric that shares its label pairs. The monitor has
// made every label valid UTF-8.
type scalar struct {
	desc    *prometheus.Desc
	pairs   []*dto.LabelPair
	value   float64
	counter bool
}

// Desc returns the family's descriptor.
func (m *scalar) Desc() *prometheus.Desc { return m.desc }

// Write writes the metric in the data model of the exposition formats.
func (m *scalar) Write(out *dto.Metric) error {
	out.Label = m.pairs
	if m.counter {
		out.Counter = &dto.Counter{Value: &m.value}
	} else {
		out.Gauge = &dto.Gauge{Value: &m.value}
	}
	return nil
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
			exemplars = append(exemplars, prometheus.Exemplar{
				Value: e.Value, Labels: prometheus.Labels{"trace_id": e.TraceID},
				Timestamp: e.Time,
			})
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
