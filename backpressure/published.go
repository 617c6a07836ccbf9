package backpressure

import (
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Deciding is done under the controller's mutex, and what it leads to is
// published in atomics: per service, per path, and for the whole. Who only
// reads takes no lock, so that neither a scrape nor ten thousand streams that
// ask for their signal hold up a report. A service and a path are each
// consistent in themselves; between two of them a report may have come.

// A version guards atomics that belong together. Whoever holds the controller's
// mutex changes them between begin and end; a reader reads again if that
// happened meanwhile. It is a sequence lock, whose reader never holds up the
// writer.
type version struct{ n atomic.Uint64 }

func (v *version) begin() { v.n.Add(1) }
func (v *version) end()   { v.n.Add(1) }

// read calls load until nothing has changed while it ran.
func (v *version) read(load func()) {
	for {
		if n := v.n.Load(); n&1 == 0 {
			load()
			if v.n.Load() == n {
				return
			}
		}
		runtime.Gosched() // the writer may have lost its processor in between
	}
}

// A number is an atomic float64.
type number struct{ bits atomic.Uint64 }

func (n *number) load() float64 { return math.Float64frombits(n.bits.Load()) }

// store is cheap where the number stays: a report leaves most as they were, and
// an atomic write costs ten times a read.
func (n *number) store(v float64) {
	if bits := math.Float64bits(v); n.bits.Load() != bits {
		n.bits.Store(bits)
	}
}

func store(a *atomic.Int64, v int64) {
	if a.Load() != v {
		a.Store(v)
	}
}

// controllerView is what readers see of the whole.
type controllerView struct {
	fraction number                  // the least of the paths
	paths    atomic.Pointer[[]*path] // replaced, never changed
	inFlight atomic.Int64
	external atomic.Int64
	learning atomic.Bool

	version                 version // guards the rest
	active                  atomic.Bool
	activeSince, activeTime atomic.Int64
}

// A directory finds services by their ids, twice: a plain map, guarded by the
// controller's mutex, for reports, to which it costs a third of what a map costs
// that can be read meanwhile.
type directory struct {
	locked  map[string]*service
	open    sync.Map // the same, string to *service
	changes atomic.Uint64
	listed  atomic.Pointer[listing]
}

// A listing is the services in order of their ids, as they were after so many
// changes. It is replaced, never changed.
type listing struct {
	changes  uint64
	services []*service
}

func (d *directory) find(id string) *service {
	found, _ := d.open.Load(id)
	s, _ := found.(*service)
	return s
}

func (d *directory) add(s *service) {
	d.locked[s.id] = s
	d.open.Store(s.id, s)
	d.changes.Add(1)
}

func (d *directory) remove(s *service) {
	delete(d.locked, s.id)
	d.open.Delete(s.id)
	d.changes.Add(1)
}

// all returns the services in order of their ids, in a list that is shared.
func (d *directory) all() []*service {
	changes := d.changes.Load() // first: what comes meanwhile makes the list an old one
	if l := d.listed.Load(); l != nil && l.changes == changes {
		return l.services
	}
	var all []*service
	d.open.Range(func(_, s any) bool {
		all = append(all, s.(*service))
		return true
	})
	slices.SortFunc(all, func(a, b *service) int { return strings.Compare(a.id, b.id) })
	d.listed.Store(&listing{changes, all})
	return all
}

// serviceView is what readers see of a service.
type serviceView struct {
	version                                    version
	inFlight, maxInFlight, queueDepth, latency atomic.Int64
	seconds, nanoseconds                       atomic.Int64 // the report's own time
	updated                                    atomic.Int64 // since the controller's base
	own, load, throughput, errorRate, fraction number
	role                                       atomic.Uint32
	upstreams                                  atomic.Pointer[[]string] // replaced, never changed
	paths                                      atomic.Pointer[[]*path]
}

// publishLocked shows the service's report.
func (s *service) publishLocked() {
	v, r := &s.view, &s.report
	v.version.begin()
	store(&v.inFlight, r.InFlight)
	store(&v.maxInFlight, r.MaxInFlight)
	store(&v.queueDepth, r.QueueDepth)
	store(&v.latency, int64(r.Latency))
	store(&v.seconds, r.Time.Unix())
	store(&v.nanoseconds, int64(r.Time.Nanosecond()))
	store(&v.updated, int64(s.updated))
	v.own.store(r.Load)
	v.load.store(s.load)
	v.throughput.store(r.Throughput)
	v.errorRate.store(r.ErrorRate)
	v.fraction.store(r.Fraction)
	if v.role.Load() != uint32(r.Role) {
		v.role.Store(uint32(r.Role))
	}
	v.version.end()
}

// state is the service as it was published last.
func (s *service) state(base time.Time) (state ServiceState, updated time.Duration) {
	v := &s.view
	v.version.read(func() {
		state.Report = Report{
			ServiceID: s.id, InFlight: v.inFlight.Load(), MaxInFlight: v.maxInFlight.Load(),
			Load: v.own.load(), QueueDepth: v.queueDepth.Load(), Throughput: v.throughput.load(),
			Latency: time.Duration(v.latency.Load()), ErrorRate: v.errorRate.load(), Fraction: v.fraction.load(),
			Role: Role(v.role.Load()), Time: time.Unix(v.seconds.Load(), v.nanoseconds.Load()),
		}
		state.Load = v.load.load()
		updated = time.Duration(v.updated.Load())
	})
	if upstreams := v.upstreams.Load(); upstreams != nil {
		state.Upstreams = slices.Clone(*upstreams)
	}
	state.LastHeard = base.Add(updated)
	if state.Time.IsZero() {
		state.Time = state.LastHeard
	}
	return state, updated
}

// path is the one that the service follows.
func (s *service) path() *path {
	paths := *s.view.paths.Load()
	best := paths[0]
	for _, p := range paths[1:] {
		if p.view.fraction.load() > best.view.fraction.load() {
			best = p
		}
	}
	return best
}

// pathView is what readers see of a path.
type pathView struct {
	version                                        version
	services                                       atomic.Int64
	load, smoothed, worstLoad, aggregate, fraction number // load: without the pipeline's own limit
	active                                         atomic.Bool
	since                                          atomic.Int64 // of the present activation, since base; -1: none
	activations                                    atomic.Uint64
	worst                                          atomic.Pointer[service]
	reason                                         atomic.Pointer[string] // nil: the load is
	text                                           atomic.Pointer[description]
}

// publishLocked shows the path as it is driven by driver.
func (p *path) publishLocked(driver Driver) {
	v, worst, worstLoad := &p.view, p.worst.max(), 0.0
	if worst != nil {
		worstLoad = worst.load
	}
	v.version.begin()
	store(&v.services, int64(p.count))
	v.load.store(p.driving(driver, nil))
	v.smoothed.store(p.smoothed)
	v.worstLoad.store(worstLoad)
	v.aggregate.store(p.aggregate())
	v.fraction.store(p.effective())
	if active := p.active || p.cap < 1; v.active.Load() != active {
		v.active.Store(active)
	}
	since := int64(-1)
	if p.active {
		since = int64(p.since)
	}
	store(&v.since, since)
	if v.activations.Load() != p.activations {
		v.activations.Store(p.activations)
	}
	if v.worst.Load() != worst {
		v.worst.Store(worst)
	}
	reason := p.reason
	if p.cap >= p.fraction {
		reason = nil
	}
	if v.reason.Load() != reason {
		v.reason.Store(reason)
	}
	v.version.end()
}

// state is the path as it was published last. Its load does not know of the
// pipeline's own limit.
func (p *path) state(base time.Time) (state PathState) {
	v := &p.view
	v.version.read(func() {
		state = PathState{
			Name: p.name, Services: int(v.services.Load()), Load: v.load.load(), Smoothed: v.smoothed.load(),
			WorstLoad: v.worstLoad.load(), AggregateLoad: v.aggregate.load(), Fraction: v.fraction.load(),
			Active: v.active.Load(), Activations: v.activations.Load(),
		}
		if since := v.since.Load(); since >= 0 {
			state.Since = base.Add(time.Duration(since))
		}
		if worst := v.worst.Load(); worst != nil {
			state.WorstService = worst.id
		}
	})
	return state
}
