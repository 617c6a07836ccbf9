package otelmonitor

import (
	"math"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/withobsrvr/sluice/monitor"
)

// The API has no asynchronous histogram, and the counts of a distribution that
// somebody else keeps cannot be replayed into a synchronous one. So it goes out
// as what a histogram is in Prometheus: cumulative buckets, a sum and a count.
// They are up-down counters only because the standard translation would append
// _total to the names of counters.
type parts struct{ bucket, sum, count metric.Float64Observable }

// upperBound is the attribute of a bucket's upper bound, as in Prometheus.
const upperBound = "le"

func newParts(meter metric.Meter, f *monitor.Family) (p parts, observables []metric.Observable, err error) {
	for _, part := range []struct {
		instrument *metric.Float64Observable
		suffix     string
		options    []metric.Float64ObservableUpDownCounterOption
	}{
		{&p.bucket, ".bucket", nil},
		{&p.sum, ".sum", []metric.Float64ObservableUpDownCounterOption{metric.WithUnit(f.Unit)}},
		{&p.count, ".count", nil},
	} {
		made, err := meter.Float64ObservableUpDownCounter(f.OTel+part.suffix,
			append(part.options, metric.WithDescription(f.Help))...)
		if err != nil {
			return p, nil, err
		}
		*part.instrument = made
		observables = append(observables, made)
	}
	return p, observables, nil
}

// distributionLocked observes one histogram of the family, whose index is i.
func (r *Registration) distributionLocked(o metric.Observer, i int, f *family, v monitor.Sample) {
	h, total := v.Histogram, uint64(0)
	for b, n := range h.Counts {
		total += n
		bound := math.Inf(1)
		if b < len(h.Bounds) {
			bound = h.Bounds[b]
		}
		o.ObserveFloat64(f.parts.bucket, float64(total), r.attributesLocked(i, f, v.Labels, bound)...)
	}
	labels := r.attributesLocked(i, f, v.Labels, 0)
	o.ObserveFloat64(f.parts.sum, h.Sum, labels...)
	o.ObserveFloat64(f.parts.count, float64(total), labels...)
}

// bucketOf is the attribute of a bound, which Prometheus writes the same way.
func bucketOf(bound float64) attribute.KeyValue {
	return attribute.String(upperBound, strconv.FormatFloat(bound, 'g', -1, 64))
}
