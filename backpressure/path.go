package backpressure

import (
	"container/heap"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// smoothing is the time constant of a path's smoothed load.
const smoothing = 0.5

// A path is a set of services that are decided upon together: the entries that
// feed the same stages, and those stages. The controller's mutex guards it. See
// buildPathsLocked for how paths are found.
//
// Its fraction is what the policy decided, its cap what signals from outside allow;
// the smaller counts. They are kept apart so that a signal that ends gives back what
// the policy decided meanwhile.
type path struct {
	name                  string
	loads                 loads // a heap, the worst first
	inFlight, maxInFlight int64

	load, smoothed float64
	last           time.Duration // of the last step, since base; -1: none
	observed       time.Duration // when the load that drives the path was reported
	freshUntil     time.Duration // until when that report counts as an observation
	reporter       *service      // the last to report
	active         bool
	event          Event // for the policy's next decision
	fraction       float64
	cap            float64 // what signals from outside allow
	capReason      string
	memory         Memory
	since          time.Duration // of the present activation, since base
	activations    uint64
	changed        bool
	text           atomic.Pointer[description] // why it is as it is, made when first asked for
}

func newPath(name string) *path {
	return &path{name: name, fraction: 1, cap: 1, last: -1}
}

// effective is what the path admits.
func (p *path) effective() float64 { return min(p.fraction, p.cap) }

// limited says whether anything limits the path.
func (p *path) limited() bool { return p.active || p.cap < 1 }

func (p *path) join(s *service) {
	m := &member{service: s, path: p}
	s.members = append(s.members, m)
	p.inFlight += counted(&s.report)
	p.maxInFlight += s.report.MaxInFlight
	heap.Push(&p.loads, m)
}

// leave takes the member out of its path; the service drops it from its list.
func (m *member) leave() {
	p := m.path
	p.inFlight -= counted(&m.service.report)
	p.maxInFlight -= m.service.report.MaxInFlight
	heap.Remove(&p.loads, m.index)
}

// aggregate is the handoff's load: sum(in flight) / sum(maximum). Services without a
// maximum are in neither sum.
func (p *path) aggregate() float64 {
	if p.maxInFlight == 0 {
		return 0
	}
	return float64(p.inFlight) / float64(p.maxInFlight)
}

// worstLoad is the load of the fullest stage, in O(1).
func (p *path) worstLoad() float64 {
	if s := p.loads.worst(); s != nil {
		return s.load
	}
	return 0
}

// driving is the load that drives p, apart from the pipeline's own limit.
func (p *path) driving(driver Driver) float64 {
	if driver == Aggregate {
		return p.aggregate()
	}
	return p.worstLoad()
}

// wholeLoad is the load of the pipeline's own limit. It drives every path: what is in
// flight in all costs memory wherever it is.
func wholeLoad(cfg *Config, inFlight int64) float64 {
	if cfg.MaxInFlight < 0 {
		return 0
	}
	return float64(inFlight) / float64(cfg.MaxInFlight)
}

// stepLocked brings p to now and reports whether its fraction or activity changed.
//
// Activation follows the load itself and not its mean: a stage that has just become
// full must not wait half a second for the mean to say so. While the path is active
// the policy decides; it may ask for the end of backpressure, and gets it only at or
// below the recovery threshold, so that no policy can flap between two reports.
//
// The mean is exponential in time and not in the count of reports: components report
// once a second at rest and ten times a second under load, and a mean over reports
// would weigh the busy moments ten times.
func (c *Controller) stepLocked(p *path, now time.Duration) bool {
	cfg := c.cfg.Load()
	before, wasActive := p.fraction, p.active
	if len(p.loads) == 0 { // its state was about services that are gone
		p.active, p.fraction, p.smoothed, p.last = false, 1, 0, -1
		p.changed = p.changed || before != 1 || wasActive
		return before != 1 || wasActive
	}
	p.load = max(p.driving(cfg.Driver), wholeLoad(cfg, c.inFlight))
	elapsed := c.observeLocked(p, cfg, now)
	if p.last < 0 {
		p.smoothed = p.load
	} else {
		p.smoothed += (1 - math.Exp(-elapsed.Seconds()/smoothing)) * (p.load - p.smoothed)
	}
	p.last = now

	if !p.active {
		if p.load < cfg.Activation {
			return false
		}
		p.active, p.event = true, Entered
		p.activations++
		c.activations++
		p.since = now
	}
	if p.event != Continued {
		p.memory = Memory{}
	}
	d := cfg.Policy.Decide(Input{
		Load: p.load, Smoothed: p.smoothed, Fraction: p.fraction, Elapsed: elapsed,
		Activation: cfg.Activation, Recovery: cfg.Recovery, Floor: cfg.Floor,
		Interval: cfg.Interval, Event: p.event, Memory: &p.memory,
	})
	p.event = Continued
	if d.Fraction == d.Fraction { // not NaN
		p.fraction = clamp(d.Fraction, cfg.Floor, 1)
	}
	if d.Release && p.load <= cfg.Recovery {
		p.active, p.fraction = false, 1
	}
	if p.active != wasActive {
		cfg.Logger.Info("backpressure", slog.Bool("active", p.active), slog.String("path", p.name),
			slog.Float64("load", p.load), slog.Float64("fraction", p.fraction))
	}
	if p.fraction == before && p.active == wasActive {
		return false
	}
	p.changed = true
	return true
}

// maxBetween bounds how seldom reports may come that still count as continuous:
// stock components beat every 10 s, and nothing is steered by anything slower.
const maxBetween = 15 * time.Second

// observeLocked returns for how long the path's load has been observed since its
// last step. A report is an observation until the next one is overdue: for twice
// the time between its service's reports. Beyond that nothing is known of the
// load, and nothing is integrated. The report that ends such a gap starts from the
// fraction in force, as if the decider had just started.
func (c *Controller) observeLocked(p *path, cfg *Config, now time.Duration) time.Duration {
	source := p.loads.worst()
	switch {
	case wholeLoad(cfg, c.inFlight) >= p.load:
		source = c.silent.Back().Value.(*service) // every service is in this load
	case cfg.Driver == Aggregate && p.reporter != nil:
		source = p.reporter
	}
	elapsed := max(0, min(now, p.freshUntil)-p.last)
	if now > p.freshUntil && source.updated > p.observed {
		elapsed, p.smoothed = 0, p.load
		if p.active && p.event == Continued {
			p.event = Resumed
		}
	}
	p.observed = source.updated
	p.freshUntil = source.updated + 2*max(cfg.Interval, min(source.between, maxBetween))
	return elapsed
}

// reportedFraction is the median of what the path's services say that they
// work at: one that has just started says 1, one that is lost says its safe
// fraction, and neither may carry the rest along. 1 where no service says anything.
func (p *path) reportedFraction() float64 {
	var all []float64
	for _, m := range p.loads {
		if f := m.service.report.Fraction; f > 0 {
			all = append(all, f)
		}
	}
	if len(all) == 0 {
		return 1
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (p *path) stateLocked(cfg *Config, base time.Time) PathState {
	state := PathState{
		Name: p.name, Services: len(p.loads), Load: p.driving(cfg.Driver), Smoothed: p.smoothed,
		WorstLoad: p.worstLoad(), AggregateLoad: p.aggregate(), Fraction: p.effective(),
		Active: p.limited(), Activations: p.activations,
	}
	if p.active {
		state.Since = base.Add(p.since)
	}
	if s := p.loads.worst(); s != nil {
		state.WorstService = s.id
	}
	return state
}
