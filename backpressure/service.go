package backpressure

import (
	"container/heap"
	"container/list"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/topology"
)

// A service is what the controller keeps of one component, guarded by the
// controller's mutex. The report's upstreams are replaced, never changed, so
// that a copy of the report may be read without the mutex.
type service struct {
	id      string
	report  Report
	load    float64
	updated time.Duration // since base
	gap     time.Duration // before the last report
	between time.Duration // how often it reports: the smaller of the last two gaps
	members []*member     // its places on paths; never empty while it is known
	silent  *list.Element // its place among the silent
	placed  bool          // its place in the graph is known: it said what feeds it, or another named it
}

// newServiceLocked makes a service known that has not reported yet. It starts on
// the path of those without a place: where it belongs is known after its report.
func (c *Controller) newServiceLocked(id string) (*service, *Error) {
	if len(c.services) >= c.cfg.Load().MaxServices {
		return nil, &Error{Reason: TooMany, ServiceID: shorten(id), Field: "services", Value: "at their limit"}
	}
	s := &service{id: id, report: Report{ServiceID: id}, updated: c.now()}
	s.silent = c.silent.PushBack(s)
	c.services[id] = s
	c.paths[0].join(s) // the path of those without a place, until the paths are built anew
	c.dirty = c.dirty || c.edges > 0
	if c.learning && c.learned == 0 {
		c.learned = c.now() + c.cfg.Load().Learn
	}
	c.armLocked()
	return s, nil
}

// adoptLocked makes r the service's report and keeps every sum exact: each sum moves
// by the difference to the last report, so that none of them is ever added up anew.
// All are integers, which no order of reports makes drift.
func (c *Controller) adoptLocked(s *service, r *Report) {
	if !known(r.Kind) {
		r.Kind = s.report.Kind
	}
	if r.Upstreams != nil && !s.placed {
		s.placed, c.dirty = true, true
	}
	switch {
	case r.Upstreams == nil || slices.Equal(r.Upstreams, s.report.Upstreams):
		r.Upstreams = s.report.Upstreams
	default:
		c.edges += len(r.Upstreams) - len(s.report.Upstreams)
		r.Upstreams = slices.Clone(r.Upstreams)
		c.dirty = true
	}
	r.ServiceID = s.id // one copy of the text: the caller's may be part of a whole message
	inFlight, room := counted(r)-counted(&s.report), r.MaxInFlight-s.report.MaxInFlight
	c.inFlight += r.InFlight - s.report.InFlight
	s.report = *r
	s.load = r.load()
	now := c.now()
	gap := now - s.updated
	s.updated, s.gap, s.between = now, gap, min(gap, s.gap)
	for _, m := range s.members {
		m.path.inFlight += inFlight
		m.path.maxInFlight += room
		m.path.reporter = s
		heap.Fix(&m.path.loads, m.index)
	}
	c.silent.MoveToBack(s.silent)
	c.sinceWork++
}

// known says whether a kind says anything.
func known(kind topology.Kind) bool { return kind != "" && kind != topology.KindUnknown }

// counted is what a service adds to the aggregate's numerator: without a limit,
// nothing.
func counted(r *Report) int64 {
	if r.MaxInFlight == 0 {
		return 0
	}
	return r.InFlight
}

// removeLocked is the reverse of newServiceLocked and adoptLocked. Paths are found
// anew only where there are edges: without any, nobody's place depended on s.
func (c *Controller) removeLocked(s *service) {
	c.inFlight -= s.report.InFlight
	c.edges -= len(s.report.Upstreams)
	for _, m := range s.members {
		m.leave()
		if m.path.reporter == s {
			m.path.reporter = nil
		}
	}
	s.members = nil
	c.silent.Remove(s.silent)
	delete(c.services, s.id)
	c.dirty = c.dirty || c.edges > 0 || len(c.paths) > 1
}

// sortedLocked returns the services in order of their ids, so that paths are found
// the same way whatever order the map has.
func (c *Controller) sortedLocked() []*service {
	all := make([]*service, 0, len(c.services))
	for _, s := range c.services {
		all = append(all, s)
	}
	slices.SortFunc(all, byID)
	return all
}

// path is the one that the service follows: of several the one that is throttled
// least, see [Controller.FractionFor].
func (s *service) path() *path {
	best := s.members[0].path
	for _, m := range s.members[1:] {
		if m.path.effective() > best.effective() {
			best = m.path
		}
	}
	return best
}
