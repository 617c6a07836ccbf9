package backpressure

import (
	"container/heap"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// smoothing is the time constant of a path's smoothed load.
const smoothing = 0.5

// A path is a set of services that are decided upon together: the entries that
// feed the same stages, and those stages. The controller's mutex guards it.
type path struct {
	name                  string
	loads                 loads // a heap, the worst first
	inFlight, maxInFlight int64

	load, smoothed float64
	last           time.Duration // of the last step, since base; -1: none
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

func (p *path) aggregate() float64 {
	if p.maxInFlight == 0 {
		return 0
	}
	return float64(p.inFlight) / float64(p.maxInFlight)
}

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

// wholeLoad is the load of the pipeline's own limit.
func wholeLoad(cfg *Config, inFlight int64) float64 {
	if cfg.MaxInFlight < 0 {
		return 0
	}
	return float64(inFlight) / float64(cfg.MaxInFlight)
}

// stepLocked brings p to now and reports whether its fraction or activity changed.
func (c *Controller) stepLocked(p *path, now time.Duration) bool {
	cfg := c.cfg.Load()
	before, wasActive := p.fraction, p.active
	p.load = max(p.driving(cfg.Driver), wholeLoad(cfg, c.inFlight))
	var elapsed time.Duration
	if p.last < 0 {
		p.smoothed = p.load
	} else if elapsed = now - p.last; elapsed > 0 {
		p.smoothed += (1 - math.Exp(-elapsed.Seconds()/smoothing)) * (p.load - p.smoothed)
	}
	p.last = now

	if !p.active {
		if p.load < cfg.Activation {
			return false
		}
		p.active, p.event = true, Entered
		p.activations++
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

// reportedFraction is the median of what the path's services say that they
// work at: one that has just started says 1, one that is lost says its safe
// fraction, and neither may carry the rest along.
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

const (
	maxPaths = 64
	maxReach = 64 // services reached to find the paths, for each that exists
)

// buildPathsLocked finds the paths anew from the upstreams that services name.
// Without any there is one path of all services. Otherwise entries that lead
// to the same stages share a path, and a stage that several paths cross is on
// all of them. Beyond maxPaths there is one path again: a report must stay cheap.
func (c *Controller) buildPathsLocked() {
	c.dirty, c.sinceWork = false, 0
	sets := c.findPathsLocked()
	old := c.paths
	if len(sets) == 1 && len(old) == 1 {
		return
	}
	all := c.sortedLocked()
	was := make(map[*service][]*member, len(all))
	for _, s := range all {
		was[s] = s.members
		s.members = nil
	}
	now := c.now()
	c.paths = make([]*path, 0, len(sets))
	for _, set := range sets {
		p := newPath(set.name)
		if from := ancestor(set.services, was); from != nil {
			p.inherit(from)
		} else {
			p.last = now
		}
		for _, s := range set.services {
			p.join(s)
		}
		c.paths = append(c.paths, p)
	}
	c.rebuilt = true
	c.capLocked(now)
}

// ancestor is the former path of most of the services.
func ancestor(services []*service, was map[*service][]*member) *path {
	votes := map[*path]int{}
	var best *path
	for _, s := range services {
		for _, m := range was[s] {
			if votes[m.path]++; best == nil || votes[m.path] > votes[best] {
				best = m.path
			}
		}
	}
	return best
}

func (p *path) inherit(from *path) {
	p.load, p.smoothed, p.last = from.load, from.smoothed, from.last
	p.active, p.event, p.fraction, p.cap, p.capReason = from.active, from.event, from.fraction, from.cap, from.capReason
	p.memory, p.since, p.activations = from.memory, from.since, from.activations
}

type pathSet struct {
	name     string
	services []*service
}

func (c *Controller) findPathsLocked() []pathSet {
	single := func() []pathSet { return []pathSet{{services: c.sortedLocked()}} }
	if c.edges == 0 {
		return single()
	}
	all := c.sortedLocked()
	down := make(map[*service][]*service, len(all))
	fed := make(map[*service]bool, len(all))
	for _, s := range all {
		for _, id := range s.report.Upstreams {
			if u := c.services[id]; u != nil && u != s {
				down[u] = append(down[u], s)
				fed[s] = true
			}
		}
	}
	var sets []pathSet
	byStages := map[string]int{}
	placed := make(map[*service]bool, len(all))
	budget := maxReach * (len(all) + 1)
	for _, entry := range all {
		if fed[entry] || len(down[entry]) == 0 {
			continue
		}
		stages, leaves := reach(entry, down)
		if budget -= len(stages); budget < 0 {
			return single()
		}
		var key strings.Builder
		for _, s := range stages {
			placed[s] = true
			fmt.Fprintf(&key, "%p ", s)
		}
		placed[entry] = true
		i, ok := byStages[key.String()]
		if !ok {
			if i = len(sets); i == maxPaths {
				return single()
			}
			byStages[key.String()] = i
			sets = append(sets, pathSet{name: pathName(leaves), services: stages})
		}
		sets[i].services = append(sets[i].services, entry)
	}
	var rest []*service // unconnected, or in a ring that nothing enters
	for _, s := range all {
		if !placed[s] {
			rest = append(rest, s)
		}
	}
	return append([]pathSet{{services: rest}}, sets...)
}

// reach returns what lies downstream of entry, in order of ids, and its ends.
func reach(entry *service, down map[*service][]*service) (stages, leaves []*service) {
	seen := map[*service]bool{entry: true}
	todo := []*service{entry}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if len(down[s]) == 0 {
			leaves = append(leaves, s)
		}
		for _, d := range down[s] {
			if !seen[d] {
				seen[d] = true
				stages = append(stages, d)
				todo = append(todo, d)
			}
		}
	}
	byID := func(a, b *service) int { return strings.Compare(a.id, b.id) }
	slices.SortFunc(stages, byID)
	slices.SortFunc(leaves, byID)
	return stages, leaves
}

// pathName names a path by where it ends.
func pathName(leaves []*service) string {
	const most = 3
	var names []string
	for _, s := range leaves[:min(most, len(leaves))] {
		names = append(names, shorten(s.id))
	}
	if more := len(leaves) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
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
