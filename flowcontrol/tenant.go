package flowcontrol

// hot is the share of a limit above which tenants are held to their shares of
// it. Below, the gate is everybody's, so that room is not left empty.
const hot = 0.7

// tenantWindow is how long a tenant counts as active after its last call.
const tenantWindow = int64(1e9)

// A tenant is one key's part of the gate. It is guarded by the gate's lock.
type tenant struct {
	inFlight Cost
	waiting  int
	seen     bool // called since the last count of the active tenants
	// rates are its own token buckets. version is that of the settings that they
	// were made for.
	rates   buckets
	version uint64
	ahead   [levels]Cost           // the tokens of its own that its waiters of each level will take
	lanes   [levels][classes]*lane // its places in the line; nil until it first waits there
	ended   ends                   // for the learned limit
}

// tenants knows a bounded number of keys. Those beyond it share one place:
// they are fair to the known ones, and not to each other.
type tenants struct {
	known   map[string]*tenant
	rest    tenant
	active  int64
	counted int64 // when active was counted
}

// of returns the tenant of the key, and makes it known where there is room.
func (ts *tenants) of(key string, most int) *tenant {
	t := ts.known[key]
	switch {
	case t != nil:
	case len(ts.known) >= most:
		t = &ts.rest
	default:
		if ts.known == nil {
			ts.known = make(map[string]*tenant)
		}
		t = new(tenant)
		ts.known[key] = t
		ts.active++
	}
	t.seen = true
	return t
}

// count returns the number of tenants that called, waited or held something
// within about a window, at least 1, and forgets the others: not those whose
// buckets are not full, or else a pause would fill them.
func (ts *tenants) count(now int64) int64 {
	if now-ts.counted < tenantWindow {
		return max(1, ts.active)
	}
	ts.counted, ts.active = now, 0
	for key, t := range ts.known {
		switch {
		case t.present():
			ts.active++
		case t.rates.idle(bucketTime(now)):
			delete(ts.known, key)
		}
	}
	if ts.rest.present() {
		ts.active++
	}
	return max(1, ts.active)
}

// present reports whether the tenant counts as active, and begins a new window.
func (t *tenant) present() bool {
	seen := t.seen
	t.seen = false
	return seen || t.waiting > 0 || t.inFlight != Cost{}
}

// overShareLocked reports whether the tenant holds its share of a weight that
// is hot, and c asks for more of it. A tenant that holds nothing of a weight may
// always have one cost of it.
func (t *Throttler) overShareLocked(who *tenant, c Cost) bool {
	for w := range Weight(weights) {
		n, held, limit := c.Of(w), who.inFlight.Of(w), t.bound.Of(w)
		if n == 0 || held == 0 || limit == unlimited || float64(t.inFlight.Of(w))+float64(n) <= hot*float64(limit) {
			continue
		}
		if share := max(1, limit/t.tenants.count(t.nowLocked())); held > share-min(n, share) {
			return true
		}
	}
	return false
}

// recount adds up anew what the waiters will take, after rates changed.
func (t *tenant) recount() {
	for level := range t.lanes {
		t.ahead[level] = Cost{}
		for _, l := range t.lanes[level] {
			if l == nil {
				continue
			}
			for e := l.waiters.Front(); e != nil; e = e.Next() {
				w := e.Value.(*waiter)
				w.own = t.rates.most(w.cost)
				t.ahead[level] = t.ahead[level].Add(w.own)
			}
		}
	}
}
