package interceptors

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A tenant is what [ServerConfig.Tenant] names. The mutex of the tenants guards
// everything but its rejections.
type tenant struct {
	name           string
	active         int64 // its calls, those that are not counted yet included
	started        int64
	streams        slots
	received, sent Traffic // of its calls that have ended
	open           map[*call]struct{}
	rejections     rejections
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
		e = &tenant{name: name, open: map[*call]struct{}{}}
		t.byName[name] = e
	}
	e.active++
	return e
}

// evictLocked forgets one idle tenant for a new one, in the order of the map: all
// that is lost are its sums. Where all have open calls the map grows, bounded by
// those calls.
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

// take counts the call, and takes its slot. On false nothing was taken. When
// its tenant has too many streams it reports false, and after how long one of
// them is expected to have ended.
func (t *tenants) take(cl *call, remaining time.Duration) (hint time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := cl.tenant
	if cl.stream {
		start := cl.core.at(cl.start)
		if t.maxStreams > 0 && e.streams.n >= t.maxStreams {
			return e.streams.hint(start, remaining), false
		}
		e.streams.take(start)
	}
	e.started++
	e.open[cl] = struct{}{}
	return 0, true
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

// release takes an ended call off its tenant. What it moved goes from the open call
// to the tenant's sums under the lock under which stats takes both, so that no
// snapshot has it twice.
func (t *tenants) release(cl *call) {
	e := cl.tenant
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.active--
	if cl.stream {
		start := cl.core.at(cl.start)
		e.streams.release(start, start+time.Duration(cl.age()), cl.admitted.Load())
	}
	delete(e.open, cl)
	var sum ClassStats
	cl.addTo(&sum)
	e.received.add(sum.Received)
	e.sent.add(sum.Sent)
}

// stats returns the tenants, with what their open calls moved so far.
func (t *tenants) stats() (list []TenantStats) {
	open := map[string][]*call{}
	t.mu.Lock()
	for name, e := range t.byName {
		list = append(list, TenantStats{
			Tenant: name, Active: e.active, Streams: e.streams.n, Started: e.started,
			Received: e.received, Sent: e.sent, Rejections: e.rejections.read(),
		})
		for cl := range e.open {
			open[name] = append(open[name], cl)
		}
	}
	t.mu.Unlock()
	for i := range list {
		s := &list[i]
		for _, r := range s.Rejections {
			s.Rejected += r.Count
		}
		var sum ClassStats
		for _, cl := range open[s.Tenant] {
			cl.addTo(&sum)
			s.InFlight = s.InFlight.Add(cl.inFlight())
		}
		s.Received.add(sum.Received)
		s.Sent.add(sum.Sent)
	}
	slices.SortFunc(list, func(a, b TenantStats) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list
}
