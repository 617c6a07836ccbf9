package monitor

import (
	"slices"
	"strings"

	"github.com/withobsrvr/sluice/topology"
)

// Kind is what a family's values are.
type Kind uint8

const (
	// Gauge is a value that is compared, never added up.
	Gauge Kind = iota
	// UpDown is an amount that goes up and down; sums of it have a meaning. In
	// Prometheus it is a gauge.
	UpDown
	// Counter only grows while the process lives.
	Counter
	// Distribution is a histogram.
	Distribution
)

// String returns the kind's name.
func (k Kind) String() string {
	return [...]string{"gauge", "updown", "counter", "histogram"}[k]
}

// Family is one row of the table that every face exports: a metric, its two
// names, and how to read it from a snapshot.
type Family struct {
	// Name is the name in Prometheus.
	Name string
	// OTel is the instrument's name in OpenTelemetry, Unit its unit. The
	// standard translation makes Name of them. OTel is "" for a family that
	// only Prometheus has. For a [Distribution] that is not Observed it is what
	// the names of its parts begin with: .bucket, .sum and .count.
	OTel, Unit string
	Kind       Kind
	Help       string
	// Labels are the names of its labels.
	Labels []string
	// Observed marks a distribution whose every value the monitor is told
	// ([Monitor.AddObserver]). Of the others it reads the counts that somebody
	// else keeps, and OpenTelemetry has no histogram that could be set to them.
	Observed bool
	// Legacy marks a deprecated alias, which [Config.NoLegacy] leaves out.
	Legacy bool

	each func(s *Snapshot, emit func(Sample))
}

// MaxLabels is how many labels a family has at most.
const MaxLabels = 3

// Sample is one value of a family. Its labels are an array, not a map: a scrape of
// a thousand services makes tens of thousands of samples.
type Sample struct {
	// Labels are the values of the family's labels, in their order; those
	// beyond are empty.
	Labels [MaxLabels]string
	Value  float64
	// Histogram is set instead of Value for a [Distribution].
	Histogram *Histogram
}

// Collect calls emit for each sample of the family in s, in a fixed order. A
// histogram is shared with the snapshot: do not change it.
func (f *Family) Collect(s *Snapshot, emit func(Sample)) { f.each(s, emit) }

// Families returns the whole table, in the order in which it is documented. The
// families are shared and do not change.
func Families() []*Family { return slices.Clone(families) }

// FamilyOf returns the family that a Prometheus name belongs to, also for the
// parts of a histogram (_bucket, _sum, _count), or nil.
func FamilyOf(name string) *Family {
	if f := familyByName[name]; f != nil {
		return f
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			if f := familyByName[base]; f != nil && f.Kind == Distribution {
				return f
			}
		}
	}
	return nil
}

var (
	families     = slices.Concat(pipelineFamilies, serviceFamilies, connectionFamilies, ownFamilies)
	familyByName = func() map[string]*Family {
		m := make(map[string]*Family, len(families))
		for _, f := range families {
			m[f.Name] = f
		}
		return m
	}()
)

func one(value float64) Sample { return Sample{Value: value} }

func with(value float64, labels ...string) (s Sample) {
	s.Value = value
	copy(s.Labels[:], labels)
	return s
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// kindLabel is a kind as the value of a label: source, processor, sink.
func kindLabel(k topology.Kind) string { return strings.ToLower(string(k)) }
