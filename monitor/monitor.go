package monitor

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Monitor watches what is given to it and says what is happening, as a
// [Snapshot]. All its methods may be called from any goroutine.
type Monitor struct {
	cfg    Config
	latest atomic.Pointer[Snapshot]

	latency   latencyMeter
	discovery recorder
	discovers atomic.Bool
	observers atomic.Pointer[[]*Observer]

	// building is held, by a send, while a snapshot is built: sources are users'
	// code, so it is no mutex. It guards what follows.
	building chan struct{}
	draft    Draft
	places   limits
	dropped  uint64
	meters   meters

	mu      sync.Mutex
	sources []*watched
	ticks   []*func(*Snapshot)
	run     *run

	history history
}

type watched struct{ source Source }

type run struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// New returns a monitor that watches nothing yet. It works without Start: what
// is asked of it is computed then.
func New(cfg Config) (*Monitor, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	m := &Monitor{cfg: cfg, building: make(chan struct{}, 1)}
	m.meters.interval = cfg.Interval
	if cfg.History > 0 {
		m.history.points = make([]Point, 0, int(cfg.History/cfg.Interval))
		m.history.size = int(cfg.History / cfg.Interval)
	}
	m.latest.Store(&Snapshot{})
	return m, nil
}

// Config returns the configuration in force, defaults filled in.
func (m *Monitor) Config() Config { return m.cfg }

// Families returns the families that the monitor exports.
func (m *Monitor) Families() []*Family {
	return slices.DeleteFunc(Families(), func(f *Family) bool { return f.Legacy && m.cfg.NoLegacy })
}

// Watch adds a source to every snapshot from now on, until stop is called. A
// snapshot that is being built when stop is called may still ask the source once.
// stop may be called again, and from the source itself.
func (m *Monitor) Watch(source Source) (stop func()) {
	w := &watched{source}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(slices.Clip(m.sources), w)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sources = slices.DeleteFunc(slices.Clone(m.sources), func(other *watched) bool { return other == w })
	}
}

// Start begins to look every [Config.Interval]: it keeps the history and calls
// what follows the monitor, see [Monitor.OnTick]. It does nothing on a monitor
// that has been started, and works again after Stop.
func (m *Monitor) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{cancel: cancel, done: make(chan struct{})}
	m.run = r
	go func() {
		defer close(r.done)
		ticker := time.NewTicker(m.cfg.Interval)
		defer ticker.Stop()
		for {
			m.look()
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
}

// Stop ends what Start began and waits for it. It does nothing on a monitor
// that was not started. What is asked of the monitor is still computed.
func (m *Monitor) Stop() {
	m.mu.Lock()
	r := m.run
	m.run = nil
	m.mu.Unlock()
	if r != nil {
		r.cancel()
		<-r.done
	}
}

// look does what is due at each interval.
func (m *Monitor) look() {
	s := m.fresh()
	m.history.add(s)
	m.mu.Lock()
	ticks := m.ticks
	m.mu.Unlock()
	for _, tick := range ticks {
		(*tick)(s)
	}
}

// OnTick calls f with the snapshot of every interval while m is started, until
// stop is called. f runs in the monitor's own goroutine, which Stop waits for: it
// must not call Stop, and while it blocks nothing else is looked at.
func (m *Monitor) OnTick(f func(*Snapshot)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ticks = append(slices.Clip(m.ticks), &f)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ticks = slices.DeleteFunc(slices.Clone(m.ticks), func(other *func(*Snapshot)) bool { return other == &f })
	}
}

// Snapshot returns the state now, or one that is at most [Config.Freshness] old.
// Callers that come together share one: a scrape, a probe and a report at the same
// moment ask each source once. It waits for the sources, which must not block.
// A snapshot never changes; it may be kept.
func (m *Monitor) Snapshot() *Snapshot {
	if s := m.latest.Load(); m.isFresh(s) {
		return s
	}
	m.building <- struct{}{}
	defer func() { <-m.building }()
	if s := m.latest.Load(); m.isFresh(s) {
		return s
	}
	return m.build()
}

// Recent returns a snapshot without waiting for longer than patience: a fresh
// one if it comes in time, else the latest. It is for callers that hold locks
// which a source might want, such as a callback of a metrics SDK.
func (m *Monitor) Recent(patience time.Duration) *Snapshot {
	if s := m.latest.Load(); m.isFresh(s) {
		return s
	}
	select {
	case m.building <- struct{}{}:
	default:
		return m.latest.Load()
	}
	built := make(chan struct{})
	go func() {
		defer close(built)
		defer func() { <-m.building }()
		m.build()
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-built:
	case <-timer.C:
	}
	return m.latest.Load()
}

func (m *Monitor) isFresh(s *Snapshot) bool {
	return m.cfg.Freshness > 0 && !s.Time.IsZero() && time.Since(s.Time) < m.cfg.Freshness
}

// fresh returns a snapshot that was built after the call.
func (m *Monitor) fresh() *Snapshot {
	m.building <- struct{}{}
	defer func() { <-m.building }()
	return m.build()
}

// build asks the sources in the order in which they came and makes a snapshot of
// what they say. The caller holds building. A source that panics takes the panic to
// the caller; the draft begins anew with the next snapshot.
func (m *Monitor) build() *Snapshot {
	m.mu.Lock()
	sources := m.sources
	m.mu.Unlock()
	d := &m.draft
	d.begin(time.Now())
	for _, w := range sources {
		w.source.Collect(d)
	}
	if m.discovers.Load() {
		d.Discovery(m.discovery.snapshot())
	}
	m.meters.complete(d)
	if d.pipeline != nil {
		if latency, ok := m.latency.recent(d.now); ok {
			d.pipeline.Latency, d.pipeline.LatencyMeasured = latency, true
		} else if d.measured > 0 {
			d.pipeline.Latency, d.pipeline.LatencyMeasured = d.measured, true
		}
	}
	s := d.snapshot(&m.cfg, &m.places, &m.dropped)
	m.latest.Store(s)
	return s
}

// ObserveDiscovery records the duration of one discovery call, and nothing but
// the call.
func (m *Monitor) ObserveDiscovery(ctx context.Context, took time.Duration) {
	m.discovers.Store(true)
	traceID := ""
	if m.cfg.TraceID != nil {
		traceID = m.cfg.TraceID(ctx)
	}
	m.discovery.observe(took.Seconds(), traceID)
	if observers := m.observers.Load(); observers != nil {
		for _, o := range *observers {
			(*o)(ctx, "flowctl_service_discovery_duration_seconds", took.Seconds())
		}
	}
}

// ObserveLatency records how long one event took from its source to its sink,
// for pipelines whose events carry the time at which they began. While such
// observations come in, they are the pipeline's latency.
func (m *Monitor) ObserveLatency(took time.Duration) { m.latency.observe(took, time.Now()) }

// AddObserver calls o for every observation that the monitor makes itself,
// until stop is called.
func (m *Monitor) AddObserver(o Observer) (stop func()) {
	change := func(edit func([]*Observer) []*Observer) {
		m.mu.Lock()
		defer m.mu.Unlock()
		var old []*Observer
		if p := m.observers.Load(); p != nil {
			old = slices.Clone(*p)
		}
		changed := edit(old)
		m.observers.Store(&changed)
	}
	change(func(old []*Observer) []*Observer { return append(old, &o) })
	return func() {
		change(func(old []*Observer) []*Observer {
			return slices.DeleteFunc(old, func(other *Observer) bool { return other == &o })
		})
	}
}
