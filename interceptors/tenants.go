package interceptors

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// A tenant is whoever the key function names. Its counters change under the lock
// of the tenants, and are read without it.
type tenant struct {
	name              string
	active, streams   atomic.Int64
	started, rejected atomic.Int64
	// moved is what its ended calls moved, a part for each shard's books.
	moved [shards]struct{ received, sent Traffic }
}

// tenants remembers the tenants with open calls, and a bounded number of the
// others: names come from outside, and must not fill the memory.
type tenants struct {
	listed sync.Map // of *tenant, those of byName: for who only reads

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
		t.listed.Store(e, nil)
	}
	e.active.Add(1)
	return e
}

func (t *tenants) evictLocked() {
	if len(t.byName) < t.max {
		return
	}
	for name, e := range t.byName {
		if e.active.Load() == 0 {
			delete(t.byName, name)
			t.listed.Delete(e)
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
		if t.maxStreams > 0 && e.streams.Load() >= t.maxStreams {
			return false
		}
		e.streams.Add(1)
	}
	e.started.Add(1)
	return true
}

// refused counts a refusal.
func (t *tenants) refused(e *tenant) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.rejected.Add(1)
}

// drop lets go of the tenant of a call that was never counted.
func (t *tenants) drop(e *tenant) {
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.active.Add(-1)
}

// release takes an ended call off its tenant.
func (t *tenants) release(cl *call) {
	e := cl.tenant
	if e == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e.active.Add(-1)
	if cl.stream {
		e.streams.Add(-1)
	}
}

// stats returns the tenants, with what their open calls moved so far.
func (t *tenants) stats(books []shard) (list []TenantStats) {
	sums := map[*tenant]*TenantStats{}
	for key := range t.listed.Range {
		e := key.(*tenant)
		sums[e] = &TenantStats{Tenant: e.name, Active: e.active.Load(), Streams: e.streams.Load(), Started: e.started.Load(), Rejected: e.rejected.Load()}
	}
	if len(sums) == 0 {
		return nil
	}
	for i := range books {
		books[i].sumTenants(sums)
	}
	for _, sum := range sums {
		list = append(list, *sum)
	}
	slices.SortFunc(list, func(a, b TenantStats) int { return cmp.Compare(a.Tenant, b.Tenant) })
	return list
}
