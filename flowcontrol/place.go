package flowcontrol

import (
	"cmp"
	"slices"
)

// rebuildLocked lines everybody up anew, under new settings, in the old order.
func (t *Throttler) rebuildLocked() {
	l := &t.line
	if l.length == 0 {
		return
	}
	var all []*waiter
	l.each(func(w *waiter) { all = append(all, w) })
	slices.SortFunc(all, func(a, b *waiter) int { return cmp.Compare(a.seq, b.seq) })
	lastEmpty := l.lastEmpty
	for _, w := range all {
		t.leaveLocked(w)
	}
	for _, w := range all {
		if w.tenant = nil; t.cfg.MaxKeys > 0 {
			w.tenant = t.tenants.of(w.key, t.cfg.MaxKeys)
		}
		t.joinLocked(w)
		t.setLookLocked(w)
	}
	l.lastEmpty = lastEmpty
}

// shortenLocked rejects those for which the queue has no place any more.
func (t *Throttler) shortenLocked() {
	for l := &t.line; l.length > max(0, t.cfg.Queue.Length); {
		t.rejectWaiterLocked(l.newest(0, func(*waiter) bool { return true }), verdict{reason: ReasonQueueFull})
	}
}

// newest returns the newest waiter of the least important level, of those of
// level or below for which may is true, or nil.
func (l *line) newest(level int, may func(*waiter) bool) (found *waiter) {
	for at := levels - 1; at >= level && found == nil; at-- {
		for class := range l.queues[at] {
			for _, lane := range l.queues[at][class].lanes {
				w := lane.waiters.Back().Value.(*waiter)
				if may(w) && (found == nil || w.seq > found.seq) {
					found = w
				}
			}
		}
	}
	return found
}

// placeLocked makes a place for w in the queue, where it may: a full queue gives
// up its least important, newest waiter for a more important one, and one of a
// tenant above its share of the queue for one of a tenant below.
func (t *Throttler) placeLocked(w *waiter) bool {
	l := &t.line
	if l.length < t.cfg.Queue.Length {
		return true
	}
	if t.cfg.Queue.Length <= 0 {
		return false
	}
	victim := l.newest(w.level+1, func(*waiter) bool { return true })
	if share := int(int64(t.cfg.Queue.Length) / t.tenants.count(t.nowLocked())); victim == nil &&
		w.tenant != nil && w.tenant.waiting < share {
		victim = l.newest(w.level, func(v *waiter) bool { return v.tenant != nil && v.tenant.waiting > share })
	}
	if victim == nil {
		return false
	}
	t.rejectWaiterLocked(victim, verdict{reason: ReasonQueueFull})
	return true
}
