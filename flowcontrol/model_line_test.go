package flowcontrol

import "slices"

// place says whether q may join the queue. A full one gives up another call.
func (m *model) place(q *modelCall) bool {
	if len(m.waiting) < m.cfg.Queue.Length {
		return true
	}
	if m.cfg.Queue.Length <= 0 {
		return false
	}
	victim := m.newest(q.level+1, func(*modelCall) bool { return true })
	share := int(int64(m.cfg.Queue.Length) / m.tenants())
	if victim == nil && q.tenant != nil && q.tenant.waiting < share {
		victim = m.newest(q.level, func(w *modelCall) bool { return w.tenant != nil && w.tenant.waiting > share })
	}
	if victim == nil {
		return false
	}
	m.leave(victim)
	m.answer(victim, verdict{reason: ReasonQueueFull})
	return true
}

// newest is the newest of the least important of those that may.
func (m *model) newest(level int, may func(*modelCall) bool) (found *modelCall) {
	for _, w := range m.waiting {
		if w.level >= level && may(w) && (found == nil || w.level >= found.level) {
			found = w
		}
	}
	return found
}

func (m *model) join(q *modelCall) {
	m.integrate()
	if len(m.waiting) == 0 {
		m.lastEmpty = m.now
	}
	m.arrivals++
	q.arrival = m.arrivals
	m.waiting = append(m.waiting, q)
	if q.tenant != nil {
		q.tenant.waiting++
	}
	m.classify(q)
}

func (m *model) classify(q *modelCall) {
	q.class = ordered
	if q.until != forever && !q.patient && !m.cfg.Queue.InOrder {
		q.class = codel
	}
}

func (m *model) leave(q *modelCall) {
	m.integrate()
	m.waiting = slices.DeleteFunc(m.waiting, func(w *modelCall) bool { return w == q })
	if q.tenant != nil {
		q.tenant.waiting--
	}
	if len(m.waiting) == 0 {
		m.lastEmpty = m.now
	}
}

// next is who is served next of those that this walk has not seen.
func (m *model) next() *modelCall {
	for level := range levels {
		var old, hurried *modelCall
		for _, w := range m.waiting {
			switch {
			case w.level != level || w.visited:
			case w.class == ordered && old == nil:
				old = w
			case w.class == codel && (hurried == nil || m.standing):
				hurried = w
			}
		}
		switch {
		case old == nil && hurried == nil:
			continue
		case old == nil:
			return hurried
		case hurried == nil:
			return old
		case m.standing && m.turn == ordered:
			return hurried
		case m.standing || old.arrival < hurried.arrival:
			return old
		}
		return hurried
	}
	return nil
}

// stands says whether overload is standing: the line has not been empty for an
// interval, or somebody waited too long within the last one.
func (m *model) stands(now int64) bool {
	interval := int64(m.cfg.Queue.Interval)
	return now-m.lastEmpty > interval || m.dropped && now-m.lastDrop <= interval
}

// walk lets everybody go that may, in the order of service.
func (m *model) walk() {
	m.ended, m.skipped, m.bounded, m.wake = ReasonNone, nil, false, forever
	if len(m.waiting) == 0 {
		return
	}
	standing := m.stands(m.now)
	if standing != m.standing {
		m.standing = standing
		for _, w := range m.waiting {
			if w.class == codel {
				m.setLook(w)
			}
		}
	}
	for _, w := range m.waiting {
		w.visited = false
	}
	for w := m.next(); w != nil && m.ended == ReasonNone; w = m.next() {
		m.visit(w)
	}
	for _, w := range m.waiting {
		if !w.visited {
			w.holding = m.ended.kind()
		}
	}
}

func (m *model) visit(w *modelCall) {
	v := verdict{}
	if m.enforces() {
		v = m.decide(w, len(m.waiting))
	}
	switch v.reason {
	case ReasonNone:
		m.turn = w.class
		m.overtake(w.level)
		m.leave(w)
		if m.cfg.Mode != Off {
			m.admit(w)
		}
		m.answer(w, v)
		if m.barred(levels) {
			m.ended, m.bounded = ReasonInFlight, true
		}
		return
	case ReasonOversized:
		v.after = int64(Never)
		m.leave(w)
		m.answer(w, v)
		return
	}
	w.visited, w.holding = true, v.reason.kind()
	if v.after > 0 {
		m.wake = min(m.wake, m.now+v.after)
	}
	switch {
	case v.all:
		m.ended = v.reason
	case v.reason == ReasonShare || v.reason == ReasonTenantRate:
		if v.reason == ReasonShare {
			m.wake = min(m.wake, m.counted+1e9) // the shares may be others then
		}
		for _, other := range m.waiting { // its own wait behind it
			if other.tenant == w.tenant && other.level == w.level && other.class == w.class && !other.visited {
				other.visited, other.holding = true, w.holding
			}
		}
	default:
		m.skipped = append(m.skipped, w)
		if m.barred(levels) {
			m.ended, m.bounded = v.reason, true
		}
	}
}

// barred says whether somebody of that level or a more important one has been
// overtaken often enough.
func (m *model) barred(level int) bool {
	n := 0
	for _, w := range m.skipped {
		if w.level <= level {
			if n++; w.passes >= m.cfg.Queue.Passes || n >= 64 {
				return true
			}
		}
	}
	return false
}

func (m *model) overtake(level int) {
	for _, w := range m.skipped {
		if w.level <= level {
			w.passes++
		}
	}
}

// patience is how long w may wait for something of that kind.
func (m *model) patience(w *modelCall, k kind) int64 {
	left := max(16, w.until-w.lookSince)
	switch {
	case w.until == forever || w.patient || k == forTokens:
	case k == forRoom && w.class == codel && m.standing:
		return min(left/8, int64(m.cfg.Queue.Target))
	case k == forRoom && w.class == codel:
		return min(left/8, int64(m.cfg.Queue.Interval))
	case k == forRoom:
		return left / 2
	case w.class == codel:
		return left / 16
	}
	return forever
}

func (m *model) setLook(w *modelCall) {
	w.look = m.patience(w, w.lookKind)
	if w.look == forever && w.until != forever && !w.patient {
		w.look = max((w.until-w.lookSince)/8, 1e6)
	}
	if w.look != forever {
		w.look += w.lookSince
	}
	if m.cfg.MaxWait > 0 {
		w.look = min(w.look, w.since+int64(m.cfg.MaxWait))
	}
}

// drop rejects those whose time is up, and reports whether there were any.
func (m *model) drop() (dropped bool) {
	for _, w := range slices.Clone(m.waiting) {
		if w.look > m.now {
			continue
		}
		v := verdict{}
		switch {
		case m.cfg.MaxWait > 0 && m.now-w.since >= int64(m.cfg.MaxWait):
			v.reason = ReasonMaxWait
		case w.holding != w.lookKind || m.patience(w, w.holding) == forever:
			w.lookKind, w.lookSince = w.holding, m.now
			m.setLook(w)
			continue
		case w.holding == forFraction:
			v.reason = ReasonFraction
		default:
			v.reason = ReasonQueueTimeout
			if w.class == codel {
				m.lastDrop, m.dropped = m.now, true
			}
		}
		m.leave(w)
		m.answer(w, v)
		dropped = true
	}
	return dropped
}

func (m *model) settle() {
	m.walk()
	for m.drop() {
		m.walk()
	}
}

// cancel ends a wait with its context.
func (m *model) cancel(q *modelCall) {
	m.leave(q)
	m.answer(q, verdict{reason: ReasonCanceled})
	m.walk()
}

// next moment at which time alone changes something.
func (m *model) due() int64 {
	if len(m.waiting) == 0 {
		return forever
	}
	at := m.wake
	for _, w := range m.waiting {
		at = min(at, w.look)
	}
	return at
}

// advance lets time pass. It reports false where a deadline and something else
// fall on the same nanosecond, so that the order is anybody's.
func (m *model) advance(to int64) bool {
	for {
		due := m.due()
		var ends *modelCall
		for _, w := range m.waiting {
			switch {
			case w.until > min(due, to) || ends != nil && w.until > ends.until:
			case ends != nil && w.until == ends.until, w.until == due && !m.onlyLooks(w):
				return false
			default:
				ends = w
			}
		}
		switch {
		case ends != nil:
			m.now = max(m.now, ends.until)
			m.cancel(ends)
		case due <= to:
			m.now = max(m.now, due)
			m.integrate()
			m.settle()
		default:
			m.now = to
			return true
		}
	}
}

// onlyLooks says whether what is due at w's deadline is a look at w that finds
// nothing, so that it does not matter which of both comes first.
func (m *model) onlyLooks(w *modelCall) bool {
	at := w.until
	drops := w.holding == w.lookKind && m.patience(w, w.holding) != forever ||
		m.cfg.MaxWait > 0 && at-w.since >= int64(m.cfg.MaxWait)
	return !drops && m.wake > at && m.stands(at) == m.standing &&
		!slices.ContainsFunc(m.waiting, func(other *modelCall) bool { return other != w && other.look <= at })
}
