package backpressure

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxPaths is how many paths one connected set of services is decided on: a
	// report costs as much as there are paths through its service.
	maxPaths = 64
	// maxReach is how many services are reached to find a set's paths, for each
	// that it has.
	maxReach = 64
)

// buildPathsLocked finds the paths anew from the upstreams that services name. It
// costs as much as there are services and edges, so decideLocked calls it seldom
// where there are many.
//
// Services that no edge connects never share a path, so that an overload stays
// with those that it concerns. Within a connected set, entries that lead to the
// same stages share a path, and a stage that several paths cross is on all of
// them; a set that is too tangled for that is one path.
//
// Services of which no place is known, because they say nothing of their
// upstreams and none names them, are together on the path "". Where no service
// says anything that is the whole pipeline, as the handoff defines it.
//
// State follows identities: a path goes on from what its own entries were held at,
// see ancestor. To let the majority of an old path's services decide where its state
// goes was tried: with two pipelines in one set, a sink that restarted handed the
// overload of one to the other.
func (c *Controller) buildPathsLocked() {
	c.dirty, c.sinceWork = false, 0
	sets := c.findPathsLocked()
	old := c.paths
	if len(sets) == 1 && len(old) == 1 {
		return
	}
	was := make(map[*service][]*member, len(c.services))
	for _, s := range c.services {
		was[s] = s.members
		s.members = nil
	}
	c.paths = make([]*path, 0, len(sets))
	for i, set := range sets {
		p := newPath(set.name)
		for _, s := range set.services {
			p.join(s)
		}
		switch {
		case i == 0 && old[0].name == "":
			p.inherit(old[0]) // it has no entries: whatever has no place is on it
		default:
			if from := ancestor(set, was); from != nil {
				p.inherit(from)
			}
		}
		c.paths = append(c.paths, p)
	}
	c.rebuilt = true
	c.capLocked(c.now())
}

// ancestor is the path whose state set's goes on from, nil for a fresh start. A
// fraction is what entries admit, so state follows the entries: of their former
// paths the one that held them down most. A path that was held down by a service
// which is still there, and no longer on the way, has nothing to pass on.
func ancestor(set pathSet, was map[*service][]*member) (best *path) {
	judged := map[*path]bool{}
	for _, entry := range set.entries {
		for _, m := range was[entry] {
			p := m.path
			if judged[p] {
				continue
			}
			judged[p] = true
			worst := p.loads.worst()
			if worst != nil && !slices.Contains(set.services, worst) {
				continue
			}
			if best == nil || p.effective() < best.effective() {
				best = p
			}
		}
	}
	return best
}

// inherit also takes over the count of activations, so that each is counted on one
// path.
func (p *path) inherit(from *path) {
	p.load, p.smoothed, p.last = from.load, from.smoothed, from.last
	p.active, p.event, p.fraction, p.cap, p.capReason = from.active, from.event, from.fraction, from.cap, from.capReason
	p.memory, p.since = from.memory, from.since
	p.observed, p.freshUntil = from.observed, from.freshUntil
	p.activations, from.activations = from.activations, 0
}

// A pathSet is a path to be.
type pathSet struct {
	name     string
	entries  []*service
	services []*service // the entries and all that they lead to
}

// findPathsLocked returns the paths to be, that of the services without a place
// first. Edges to services that are not known, and from a service to itself, are
// none. A service that has once been named keeps its place when the one that named
// it goes: otherwise a source would change its path whenever its only sink restarts.
func (c *Controller) findPathsLocked() []pathSet {
	sets := []pathSet{{}}
	g := &edges{down: map[*service][]*service{}, up: map[*service][]*service{}}
	all := c.sortedLocked()
	for _, s := range all {
		for _, id := range s.report.Upstreams {
			if u := c.services[id]; u != nil && u != s {
				g.down[u] = append(g.down[u], s)
				g.up[s] = append(g.up[s], u)
				u.placed = true // from now on, also while its consumers restart
			}
		}
	}
	seen := make(map[*service]bool, len(all))
	for _, s := range all {
		switch {
		case !s.placed:
			sets[0].services = append(sets[0].services, s)
		case !seen[s]:
			sets = append(sets, g.paths(g.connected(s, seen))...)
		}
	}
	return sets
}

// edges are those between services that are known.
type edges struct{ down, up map[*service][]*service }

// connected returns what edges join with s, whichever way, in order of the ids.
func (g *edges) connected(s *service, seen map[*service]bool) []*service {
	set := []*service{s}
	seen[s] = true
	for i := 0; i < len(set); i++ {
		for _, next := range [...][]*service{g.down[set[i]], g.up[set[i]]} {
			for _, n := range next {
				if !seen[n] {
					seen[n] = true
					set = append(set, n)
				}
			}
		}
	}
	slices.SortFunc(set, byID)
	return set
}

// paths are those of a connected set: one for each set of stages that some entry
// leads to, and for each ring that nothing enters. The budget bounds the search at 64
// services reached for each that there is; a set beyond it is one path.
func (g *edges) paths(set []*service) []pathSet {
	var found []pathSet
	byStages := map[string]int{}
	placed := make(map[*service]bool, len(set))
	budget := maxReach * len(set)
	enter := func(entry *service) {
		stages, leaves := g.reach(entry)
		budget -= len(stages)
		var key strings.Builder
		for _, s := range stages {
			placed[s] = true
			fmt.Fprintf(&key, "%p ", s)
		}
		placed[entry] = true
		i, ok := byStages[key.String()]
		if !ok || len(stages) == 0 {
			i = len(found)
			byStages[key.String()] = i
			found = append(found, pathSet{name: pathName(leaves), services: stages})
		}
		found[i].entries = append(found[i].entries, entry)
		found[i].services = append(found[i].services, entry)
	}
	tangled := func() bool { return budget < 0 || len(found) > maxPaths }
	for _, s := range set {
		if len(g.up[s]) == 0 && !tangled() {
			enter(s)
		}
	}
	for _, s := range set { // rings that nothing enters
		if !placed[s] && !tangled() {
			enter(s)
		}
	}
	if tangled() {
		return []pathSet{g.whole(set)}
	}
	return found
}

// whole is a connected set as one path: coarser, and safe. An overload anywhere in it
// throttles all of its entries.
func (g *edges) whole(set []*service) pathSet {
	one := pathSet{services: set}
	var leaves []*service
	for _, s := range set {
		if len(g.up[s]) == 0 {
			one.entries = append(one.entries, s)
		}
		if len(g.down[s]) == 0 {
			leaves = append(leaves, s)
		}
	}
	if len(one.entries) == 0 {
		one.entries = set
	}
	one.name = pathName(leaves)
	return one
}

// reach returns what lies downstream of entry, in order of ids, and its ends.
func (g *edges) reach(entry *service) (stages, leaves []*service) {
	seen := map[*service]bool{entry: true}
	todo := []*service{entry}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if len(g.down[s]) == 0 {
			leaves = append(leaves, s)
		}
		for _, d := range g.down[s] {
			if !seen[d] {
				seen[d] = true
				stages = append(stages, d)
				todo = append(todo, d)
			}
		}
	}
	slices.SortFunc(stages, byID)
	slices.SortFunc(leaves, byID)
	return stages, leaves
}

func byID(a, b *service) int { return strings.Compare(a.id, b.id) }

// pathName names a path by where it ends, because that is what people know a
// pipeline by, and where the load that drives it mostly is.
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
