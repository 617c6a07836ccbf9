package otelmonitor

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/withobsrvr/sluice/monitor"
)

// Scope is the name of the instrumentation scope.
const Scope = "github.com/withobsrvr/sluice/monitor"

// patience is how long the callback waits for a fresh snapshot.
const patience = 100 * time.Millisecond

// Registration is a monitor that a meter provider reads.
type Registration struct {
	monitor  *monitor.Monitor
	families []family

	// The attributes of each label set, so that a collection allocates none. A
	// callback may run for several readers at once.
	mu    sync.Mutex
	cache map[key]*attributes
	round uint64

	closeOnce sync.Once
	closeErr  error
	callback  metric.Registration
	unobserve func()
	release   func()
}

type family struct {
	*monitor.Family
	instrument metric.Float64Observable // nil for a distribution
	parts      parts                    // of a distribution
}

type key struct {
	family int
	labels [monitor.MaxLabels]string
	bound  float64 // of a bucket; 0 is none
}

type attributes struct {
	option []metric.ObserveOption
	round  uint64
}

// ErrRegistered is returned by [Register] for a provider that a monitor already
// feeds.
var ErrRegistered = errors.New("otelmonitor: a monitor is registered with this meter provider already")

// providers are those that a monitor feeds. OpenTelemetry adds up what two
// callbacks observe of one instrument, and says nothing.
var providers = struct {
	sync.Mutex
	fed map[metric.MeterProvider]bool
}{fed: map[metric.MeterProvider]bool{}}

// claim reserves a provider. A provider of a type that cannot be compared cannot
// be told from another, and is not reserved.
func claim(provider metric.MeterProvider) (release func(), err error) {
	if !reflect.TypeOf(provider).Comparable() {
		return func() {}, nil
	}
	providers.Lock()
	defer providers.Unlock()
	if providers.fed[provider] {
		return nil, ErrRegistered
	}
	providers.fed[provider] = true
	return func() {
		providers.Lock()
		defer providers.Unlock()
		delete(providers.fed, provider)
	}, nil
}

// Register makes the instruments of m's families on provider and one callback
// that reads them. Close the registration to end it. A provider takes one monitor
// at a time, since the sums of two would double: for the second Register returns
// [ErrRegistered].
func Register(m *monitor.Monitor, provider metric.MeterProvider) (*Registration, error) {
	release, err := claim(provider)
	if err != nil {
		return nil, err
	}
	r, err := register(m, provider)
	if err != nil {
		release()
		return nil, err
	}
	r.release = release
	return r, nil
}

func register(m *monitor.Monitor, provider metric.MeterProvider) (*Registration, error) {
	meter := provider.Meter(Scope)
	r := &Registration{monitor: m, cache: map[key]*attributes{}}
	histograms := map[string]metric.Float64Histogram{}
	var problems []error
	var observables []metric.Observable
	for _, f := range m.Families() {
		var (
			instrument metric.Float64Observable
			err        error
		)
		switch {
		case f.OTel == "":
			continue
		case f.Kind == monitor.Distribution && !f.Observed:
			p, all, err := newParts(meter, f)
			problems = append(problems, err)
			r.families = append(r.families, family{Family: f, parts: p})
			observables = append(observables, all...)
			continue
		case f.Kind == monitor.Distribution:
			var h metric.Float64Histogram
			h, err = meter.Float64Histogram(f.OTel, metric.WithUnit(f.Unit), metric.WithDescription(f.Help),
				metric.WithExplicitBucketBoundaries(monitor.DurationBounds()...))
			histograms[f.Name] = h
		case f.Kind == monitor.Counter:
			instrument, err = meter.Float64ObservableCounter(f.OTel, metric.WithUnit(f.Unit), metric.WithDescription(f.Help))
		case f.Kind == monitor.UpDown:
			instrument, err = meter.Float64ObservableUpDownCounter(f.OTel, metric.WithUnit(f.Unit),
				metric.WithDescription(f.Help))
		default:
			instrument, err = meter.Float64ObservableGauge(f.OTel, metric.WithUnit(f.Unit), metric.WithDescription(f.Help))
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if instrument != nil {
			r.families = append(r.families, family{Family: f, instrument: instrument})
			observables = append(observables, instrument)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	callback, err := meter.RegisterCallback(r.observe, observables...)
	if err != nil {
		return nil, err
	}
	r.callback = callback
	r.unobserve = m.AddObserver(func(ctx context.Context, name string, value float64) {
		if h := histograms[name]; h != nil {
			h.Record(ctx, value)
		}
	})
	return r, nil
}

// Close ends the registration. It is idempotent.
func (r *Registration) Close() error {
	r.closeOnce.Do(func() {
		r.unobserve()
		r.closeErr = r.callback.Unregister()
		r.release()
	})
	return r.closeErr
}

func (r *Registration) observe(_ context.Context, o metric.Observer) error {
	s := r.monitor.Recent(patience)
	r.mu.Lock() // ours alone, and nothing below calls out but the observer
	defer r.mu.Unlock()
	r.round++
	for i := range r.families {
		f := &r.families[i]
		f.Collect(s, func(v monitor.Sample) {
			if v.Histogram != nil {
				r.distributionLocked(o, i, f, v)
				return
			}
			o.ObserveFloat64(f.instrument, v.Value, r.attributesLocked(i, f, v.Labels, 0)...)
		})
	}
	for k, a := range r.cache {
		if a.round != r.round {
			delete(r.cache, k)
		}
	}
	return nil
}

func (r *Registration) attributesLocked(i int, f *family, labels [monitor.MaxLabels]string,
	bound float64,
) []metric.ObserveOption {
	if len(f.Labels) == 0 && bound == 0 {
		return nil
	}
	k := key{i, labels, bound}
	a := r.cache[k]
	if a == nil {
		pairs := make([]attribute.KeyValue, len(f.Labels))
		for j, name := range f.Labels {
			pairs[j] = attribute.String(name, labels[j])
		}
		if bound != 0 {
			pairs = append(pairs, bucketOf(bound))
		}
		a = &attributes{option: []metric.ObserveOption{metric.WithAttributeSet(attribute.NewSet(pairs...))}}
		r.cache[k] = a
	}
	a.round = r.round
	return a.option
}
