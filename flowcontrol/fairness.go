package flowcontrol

import (
	"sync"
	"sync/atomic"
	"time"
)

// hot is the share of the limit above which tenants are held to their shares.
// Below it the gate is everybody's, so that room is not left empty.
const hot = 0.7

// A tenant is one key's part of what is in flight.
type tenant struct {
	inFlight atomic.Int64
	seen     atomic.Bool // asked since the last count of the active tenants
}

// tenants knows a bounded number of keys. Those beyond it share one place:
// they are fair to the known ones, and not to each other.
type tenants struct {
	mu      sync.RWMutex
	known   map[string]*tenant
	size    atomic.Int64 // of known, for who only reads
	rest    tenant
	active  atomic.Int64
	counted atomic.Int64 // when active was counted
}

const tenantWindow = int64(time.Second)

func (ts *tenants) of(key string, most int) *tenant {
	ts.mu.RLock()
	t := ts.known[key]
	full := len(ts.known) >= most
	ts.mu.RUnlock()
	if t != nil {
		return t
	}
	if full {
		return &ts.rest
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.known[key]; t != nil {
		return t
	}
	if len(ts.known) >= most {
		return &ts.rest
	}
	if ts.known == nil {
		ts.known = make(map[string]*tenant)
	}
	t = new(tenant)
	ts.known[key] = t
	ts.size.Add(1)
	ts.active.Add(1)
	return t
}

// count counts the tenants that asked or held something lately, at most once a
// window, and forgets the others.
func (ts *tenants) count(now int64) int64 {
	last := ts.counted.Load()
	if now-last < tenantWindow || !ts.counted.CompareAndSwap(last, now) {
		return max(1, ts.active.Load())
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	active := int64(0)
	for key, t := range ts.known {
		switch {
		case t.seen.Swap(false) || t.inFlight.Load() > 0:
			active++
		default:
			delete(ts.known, key)
			ts.size.Add(-1)
		}
	}
	if ts.rest.seen.Swap(false) {
		active++
	}
	ts.active.Store(active)
	return max(1, active)
}

// join counts c for the tenant, unless the gate is hot and the tenant has its
// share already.
func (k *tenant) join(t *Throttler, c, limit Cost) bool {
	if !k.seen.Load() {
		k.seen.Store(true)
	}
	now := k.inFlight.Add(c.Messages)
	if limit.Messages < 0 {
		return true
	}
	if float64(t.flight.messages()+c.Messages) > hot*float64(limit.Messages) {
		share := max(1, limit.Messages/t.tenants.count(t.now()))
		if now > share && now > c.Messages {
			k.inFlight.Add(-c.Messages)
			return false
		}
	}
	return true
}

// leave takes n messages back. A nil tenant is none.
func (k *tenant) leave(n int64) {
	if k != nil {
		k.inFlight.Add(-n)
	}
}
