package interceptors

import (
	"cmp"
	"slices"
	"sync"
)

// A tenant is whoever the key function names. Its counters are guarded by the
// lock of the tenants.
type tenant struct {
	name              string
	active, streams   int64
	started, rejected int64
	received, sent    Traffic
}

// tenants remembers the tenants with open calls, and a bounded number of the
// others: names come from outside, and must not fill the memory.
type tenants struct {
	mu         sync.Mutex
	byName     map[string]*tenant
	max        int
	maxStreams int64
}

func (t *tenants) init(maxIdle, maxStreams int) {
	t.byName, t.max, t.maxStreams = map[string]*tenant{}, maxIdle, int64(maxStreams)
}

// get returns the tenant, held until release or drop.
func (t *tenants) get(name string) *tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byName[name]
	if e == nil {
		t.evictLocked()
		e = &tenant{name: name}
		t.byName[name] = e
	}
	e.active++
	return e
}

func (t *tenants) evictLocked() {
	if len(t.byName) < t.max {
		return
	}
	for name, e := range t.byName {
		if e.active == 0 {
			delete(t.byName, name)
			return
		}
	}
}

// take counts the call, or reports that its tenant has too many streams.
func (t *tenants) take(cl *call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := cl.tenant
	if cl.stream {
		if t.maxStreams > 0 && e.streams >= t.maxStreams {
			return false
		}
		e.streams++
	}
	e.started++
	return true
}

// refused counts a refusal.
func (t *tenants) refused(e *tenant) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.rejected++
}

// drop lets go of the tenant of a call that was never counted.
func (t *tenants) drop(e *tenant) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.active--
}

// release folds an ended call into its tenant.
func (t *tenants) release(cl *call) {
	e := cl.tenant
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.active--
	if cl.stream {
		e.streams--
	}
	e.received.add(cl.recv.traffic())
	e.sent.add(cl.send.traffic())
	cl.released = true
}

// stats adds the tenants, and what their open calls moved so far. The lock is
// that of release, so no call is counted twice; one that has left the list and
// is not yet released is missing for that moment.
func (t *tenants) stats(s *Stats, each func(func(*call))) {
	open := map[*tenant]TenantStats{}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.byName) == 0 {
		return
	}
	each(func(c *call) {
		if c.tenant == nil || c.released {
			return
		}
		e := open[c.tenant]
		e.Received.add(c.recv.traffic())
		e.Sent.add(c.send.traffic())
		e.InFlight = e.InFlight.Add(c.inFlight())
		open[c.tenant] = e
	})
	for _, e := range t.byName {
		ts := open[e]
		ts.Tenant, ts.Active, ts.Streams, ts.Started, ts.Rejected = e.name, e.active, e.streams, e.started, e.rejected
		ts.Received.add(e.received)
		ts.Sent.add(e.sent)
		s.Tenants = append(s.Tenants, ts)
	}
	slices.SortFunc(s.Tenants, func(a, b TenantStats) int { return cmp.Compare(a.Tenant, b.Tenant) })
}
