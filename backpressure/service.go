package backpressure

import (
	"time"
)

// A service is what the controller keeps of one component. All but its id and
// what is published is guarded by the controller's mutex.
type service struct {
	id         string
	view       serviceView
	report     Report
	load       float64
	updated    time.Duration // since base
	members    []*member
	prev, next *service
}

// newServiceLocked returns a service that has not reported yet. It becomes known
// with its first report.
func (c *Controller) newServiceLocked(id string) (*service, *Error) {
	if len(c.services.locked) >= c.cfg.Load().MaxServices {
		return nil, &Error{Reason: TooMany, ServiceID: shorten(id), Field: "services", Value: "at their limit"}
	}
	s := &service{id: id, report: Report{ServiceID: id}}
	c.paths[0].join(s) // the path of the unconnected, until the paths are built anew
	s.view.paths.Store(&c.paths[0].only)
	c.dirty = c.dirty || c.edges > 0
	if c.learning && c.learned == 0 {
		c.learned = c.now() + c.cfg.Load().Learn
	}
	c.armLocked()
	return s, nil
}

// adoptLocked makes r the service's report and keeps every sum exact.
func (c *Controller) adoptLocked(s *service, r *Report) {
	if r.Role == RoleUnknown {
		r.Role = s.report.Role
	}
	if r.Upstreams == nil {
		r.Upstreams = s.report.Upstreams
	} else if !sameStrings(r.Upstreams, s.report.Upstreams) {
		c.edges += len(r.Upstreams) - len(s.report.Upstreams)
		r.Upstreams = append([]string{}, r.Upstreams...)
		s.view.upstreams.Store(new(r.Upstreams))
		c.dirty = true
	} else {
		r.Upstreams = s.report.Upstreams
	}
	r.ServiceID = s.id // one copy of the text
	flown, room := counted(r)-counted(&s.report), r.MaxInFlight-s.report.MaxInFlight
	c.inFlight += r.InFlight - s.report.InFlight
	s.report = *r
	s.load = r.load()
	s.updated = c.now()
	for _, m := range s.members {
		m.path.inFlight += flown
		m.path.maxInFlight += room
		m.path.worst.move(m, bucketOf(s.load))
	}
	c.view.inFlight.Store(c.inFlight)
	s.publishLocked()
	c.silent.moveToBack(s)
	c.sinceWork++
}

// counted is what a service adds to the aggregate's numerator: without a limit,
// nothing.
func counted(r *Report) int64 {
	if r.MaxInFlight == 0 {
		return 0
	}
	return r.InFlight
}

func (c *Controller) removeLocked(s *service) {
	c.inFlight -= s.report.InFlight
	c.view.inFlight.Store(c.inFlight)
	c.edges -= len(s.report.Upstreams)
	for _, m := range s.members {
		m.leave()
		m.path.publishLocked(c.cfg.Load().Driver)
	}
	s.members = nil
	c.silent.remove(s)
	c.services.remove(s)
	c.dirty = c.dirty || c.edges > 0 || len(c.paths) > 1
}

func sameStrings(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// A serviceList is a list of services through their own links.
type serviceList struct{ front, back *service }

func (l *serviceList) remove(s *service) {
	if s.prev != nil {
		s.prev.next = s.next
	} else if l.front == s {
		l.front = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else if l.back == s {
		l.back = s.prev
	}
	s.prev, s.next = nil, nil
}

func (l *serviceList) moveToBack(s *service) {
	if l.back == s {
		return
	}
	l.remove(s)
	if s.prev = l.back; l.back != nil {
		l.back.next = s
	} else {
		l.front = s
	}
	l.back = s
}
