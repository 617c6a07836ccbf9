package flowcontrol

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A model is the gate written in the most obvious way: plain slices and maps, a
// look at everything for each question, no heap, no lane, no timer, no record
// that is used twice. It is what a Throttler is compared with, for a fixed limit
// and rates below 100,000 a second, above which a gate prepays tokens.
//
// Its time is what its user sets: nanoseconds on the clock of the gate.
type model struct {
	cfg      Config // with defaults
	now      int64
	fraction float64
	draws    uint64 // the counter of the shedding decisions
	pressed  bool

	inFlight Cost
	held     []*modelPermit
	tokens   modelBuckets

	known   map[string]*modelTenant
	rest    *modelTenant
	active  int64
	counted int64

	working    int // calls of the waiting verbs that were admitted and are not done
	debt       float64
	integrated int64
	wanted     float64
	paced      []int64 // when the work of each Pace began, oldest first

	waiting   []*modelCall // in order of arrival
	arrivals  int
	turn      int // the class that was served last
	lastEmpty int64
	lastDrop  int64
	dropped   bool
	standing  bool

	// Of the latest walk:
	ended   Reason
	skipped []*modelCall
	bounded bool // it came no further because somebody has been overtaken often enough
	wake    int64

	stats              Stats // its counters only
	ends               [outcomes]uint64
	peak, peakBefore   Cost
	peakBegan, waitSum int64
}

// A modelCall is one call of a verb.
type modelCall struct {
	verb    verb
	cost    Cost
	key     string
	level   int
	until   int64 // its deadline; forever = none
	patient bool
	tenant  *modelTenant

	arrival  int
	class    int
	passes   int
	since    int64
	measured bool
	visited  bool // by this walk
	holding  kind // what it waited for, by the latest walk
	// look is when its time may be up: it has waited for lookKind from lookSince on.
	look, lookSince int64
	lookKind        kind

	done   bool // it has its answer:
	at     int64
	permit *modelPermit
	reject Error // of ReasonNone: admitted; of ReasonCanceled: the context's error
}

type modelPermit struct {
	cost     Cost
	tenant   *modelTenant
	duty     bool
	seen     int64 // by a snapshot; 0 = not yet
	released bool
}

type modelTenant struct {
	inFlight Cost
	waiting  int
	seen     bool
	tokens   modelBuckets
}

func newModel(cfg Config) *model {
	m := &model{cfg: cfg.withDefaults(), fraction: 1, known: map[string]*modelTenant{}, rest: &modelTenant{}}
	m.draws = rand.NewPCG(cfg.Seed, golden).Uint64()
	m.wake = forever
	m.setRates()
	return m
}

// limit is the most of w that may be in flight.
func (m *model) limit(w Weight) int64 {
	if l := m.cfg.Limit.Of(w); l >= 0 {
		return l
	}
	return math.MaxInt64
}

// room is what a cost holds in flight: an oversized one runs alone.
func (m *model) room(q *modelCall) Cost {
	if q.verb == pace {
		return Cost{}
	}
	most := int64(1) << 62
	return Cost{
		min(q.cost.Messages, m.limit(Messages), most),
		min(q.cost.Rows, m.limit(Rows), most),
		min(q.cost.Bytes, m.limit(Bytes), most),
	}
}

func (m *model) enforces() bool {
	return m.cfg.Mode == Enforce || m.cfg.Mode == EnforceUnderPressure
}

func (m *model) enforcesTokens() bool {
	return m.cfg.Mode != EnforceUnderPressure || m.pressed || m.fraction < 1 ||
		m.cfg.PressureLoad > 0 && m.load() >= m.cfg.PressureLoad
}

func (m *model) load() float64 {
	load := 0.0
	for w := range Weight(weights) {
		if l := m.limit(w); l != math.MaxInt64 {
			load = max(load, float64(m.inFlight.Of(w))/float64(l))
		}
	}
	return load
}

// shed draws one shedding decision of the verb that does not wait.
func (m *model) shed() bool {
	if m.fraction == 1 {
		return false
	}
	m.draws += golden
	return m.draws >= uint64(math.Ldexp(m.fraction, 64))
}

// decide is the decision on q now; waiting is how many wait, q included.
func (m *model) decide(q *modelCall, waiting int) verdict {
	if m.cfg.RejectOversized {
		for w := range Weight(weights) {
			n := q.cost.Of(w)
			if q.verb != pace && n > m.limit(w) || m.tokens[w].rate > 0 && n > m.tokens[w].burst ||
				q.tenant != nil && q.tenant.tokens[w].rate > 0 && n > q.tenant.tokens[w].burst {
				return verdict{reason: ReasonOversized, weight: w}
			}
		}
	}
	if q.verb != try && m.fraction < 1 && m.cfg.Mode != Observe {
		m.integrate()
		if !m.mayWork(waiting) {
			return verdict{reason: ReasonFraction, after: m.mayWorkIn(waiting), all: true}
		}
	}
	if q.verb != pace && q.cost.Messages > 0 && m.inFlight.Messages >= m.limit(Messages) {
		return verdict{reason: ReasonInFlight, all: true}
	}
	room := m.room(q)
	if q.tenant != nil && m.cfg.MaxKeys > 0 {
		if d, w := q.tenant.tokens.wait(m.now, Cost{}, q.cost); d > 0 && m.enforcesTokens() {
			return verdict{reason: ReasonTenantRate, weight: w, after: (d + 63) / 64}
		}
		if m.overShare(q.tenant, room) {
			return verdict{reason: ReasonShare}
		}
	}
	if d, w := m.tokens.wait(m.now, Cost{}, q.cost); d > 0 && m.enforcesTokens() {
		// Where there is no token for one message, nobody with one may go.
		first := &m.tokens[Messages]
		all := q.cost.Messages > 0 && first.rate > 0 && first.wait(m.now, 1) > 0
		if all {
			d = first.wait(m.now, 1)
		}
		return verdict{reason: ReasonRate, weight: w, after: (d + 63) / 64, all: all}
	}
	for w := range Weight(weights) {
		if n := room.Of(w); n > 0 && m.inFlight.Of(w) > m.limit(w)-n {
			return verdict{reason: ReasonInFlight, weight: w}
		}
	}
	return verdict{}
}

// overShare says whether the tenant holds its share of something of which more
// than 70 % are used with c, and asks for more.
func (m *model) overShare(t *modelTenant, c Cost) bool {
	for w := range Weight(weights) {
		n, mine, limit := c.Of(w), t.inFlight.Of(w), m.limit(w)
		if n == 0 || mine == 0 || limit == math.MaxInt64 ||
			float64(m.inFlight.Of(w))+float64(n) <= 0.7*float64(limit) {
			continue
		}
		if share := max(1, limit/m.tenants()); mine > share-min(n, share) {
			return true
		}
	}
	return false
}

// tenant is who calls: one that is known, or all others together.
func (m *model) tenant(key string) *modelTenant {
	if m.cfg.MaxKeys <= 0 {
		return nil
	}
	t := m.known[key]
	switch {
	case t != nil:
	case len(m.known) >= m.cfg.MaxKeys:
		t = m.rest
	default:
		t = &modelTenant{}
		m.known[key] = t
		m.active++
		m.setTenantRates(key, t)
	}
	t.seen = true
	return t
}

// tenants is how many there are, counted once a second; who did nothing since
// is forgotten, but not before its tokens are back.
func (m *model) tenants() int64 {
	if m.now-m.counted < 1e9 {
		return max(1, m.active)
	}
	m.counted, m.active = m.now, 0
	present := func(t *modelTenant) bool {
		is := t.seen || t.waiting > 0 || t.inFlight != Cost{}
		t.seen = false
		if is {
			m.active++
		}
		return is
	}
	present(m.rest)
	for key, t := range m.known {
		if !present(t) && t.tokens.full(m.now) {
			delete(m.known, key)
		}
	}
	return max(1, m.active)
}

// admit takes what q costs.
func (m *model) admit(q *modelCall) {
	m.tokens.take(m.now, q.cost)
	if q.tenant != nil {
		q.tenant.tokens.take(m.now, q.cost)
	}
	if q.verb == pace {
		if m.fraction < 1 {
			m.integrate()
			m.working++
			m.paced = append(m.paced, m.now)
		}
		return
	}
	room := m.room(q)
	p := &modelPermit{tenant: q.tenant, duty: q.verb == acquire, cost: Cost{
		min(room.Messages, math.MaxInt64-m.inFlight.Messages),
		min(room.Rows, math.MaxInt64-m.inFlight.Rows),
		min(room.Bytes, math.MaxInt64-m.inFlight.Bytes),
	}}
	if p.duty {
		m.integrate()
		m.working++
	}
	m.inFlight = m.inFlight.Add(p.cost)
	m.peak = Cost{
		max(m.peak.Messages, m.inFlight.Messages), max(m.peak.Rows, m.inFlight.Rows), max(m.peak.Bytes, m.inFlight.Bytes),
	}
	if p.tenant != nil {
		p.tenant.inFlight = p.tenant.inFlight.Add(p.cost)
	}
	m.held = append(m.held, p)
	q.permit = p
}

func less(c, d Cost) Cost { return Cost{c.Messages - d.Messages, c.Rows - d.Rows, c.Bytes - d.Bytes} }

func (m *model) release(p *modelPermit, o Outcome) {
	if p == nil || p.released {
		return
	}
	p.released = true
	if p.duty {
		m.integrate()
		m.working--
	}
	m.inFlight = less(m.inFlight, p.cost)
	if p.tenant != nil {
		p.tenant.inFlight = less(p.tenant.inFlight, p.cost)
	}
	m.held = slices.DeleteFunc(m.held, func(h *modelPermit) bool { return h == p })
	m.ends[min(o, Dropped)]++
	m.walk()
}

func (m *model) answer(q *modelCall, v verdict) {
	q.done, q.at = true, m.now
	if v.reason != ReasonNone {
		m.stats.Rejected[v.reason]++
		q.reject = Error{
			Name: m.cfg.Name, Reason: v.reason, Weight: v.weight, RetryAfter: time.Duration(v.after),
			Cost: q.cost, Limit: m.cfg.Limit, InFlight: m.inFlight, Fraction: m.fraction,
		}
	}
	if q.measured {
		i := 0
		for i < waitBuckets-1 && m.now-q.since > 1e6<<i {
			i++
		}
		m.stats.WaitBuckets[i]++
		m.waitSum += m.now - q.since
	}
}

// reject answers a call that did not wait.
func (m *model) reject(q *modelCall, v verdict) {
	switch v.reason {
	case ReasonRate, ReasonTenantRate: // after all that wait
		v.after, v.weight, _ = m.tokensIn(q, levels-1)
	case ReasonOversized:
		v.after = int64(Never)
	case ReasonDeadline, ReasonMaxWait:
	default:
		v.after = 0
	}
	m.answer(q, v)
}

// tokensIn is how long it takes until the tokens for q are there, after those of
// all that wait at that level or a more important one; own says that its tenant's
// come last.
func (m *model) tokensIn(q *modelCall, level int) (after int64, weight Weight, own bool) {
	var before, mine Cost
	for _, w := range m.waiting {
		if w.level <= level {
			before = before.Add(m.tokens.takes(w.cost))
			if w.tenant != nil && w.tenant == q.tenant {
				mine = mine.Add(q.tenant.tokens.takes(w.cost))
			}
		}
	}
	d, w := m.tokens.wait(m.now, before, q.cost)
	if q.tenant != nil && m.cfg.MaxKeys > 0 {
		if later, weight := q.tenant.tokens.wait(m.now, mine, q.cost); later > d {
			d, w, own = later, weight, true
		}
	}
	return (d + 63) / 64, w, own
}

// takes is what c will take: the debt is bounded.
func (bs *modelBuckets) takes(c Cost) Cost {
	most := func(w Weight) int64 { return min(c.Of(w), 3*bs[w].burst) }
	return Cost{most(Messages), most(Rows), most(Bytes)}
}

func (m *model) observe(q *modelCall) {
	if m.shed() {
		m.stats.WouldReject[ReasonFraction]++
	}
	if v := m.decide(q, len(m.waiting)+1); v.reason != ReasonNone {
		m.stats.WouldReject[v.reason]++
	}
	m.admit(q)
	m.answer(q, verdict{})
}

// try is TryAcquire.
func (m *model) try(q *modelCall) {
	if m.cfg.Mode == Off {
		q.done, q.at = true, m.now
		return
	}
	q.tenant = m.tenant(q.key)
	if !m.enforces() {
		m.observe(q)
		return
	}
	v := verdict{reason: ReasonFraction}
	if !m.shed() {
		v = m.decide(q, len(m.waiting)+1)
	}
	if v.reason == ReasonNone && len(m.waiting) > 0 {
		v = m.behind(q)
		if v.reason == ReasonNone {
			m.overtake(q.level)
		}
	}
	if v.reason != ReasonNone {
		m.reject(q, v)
		return
	}
	m.admit(q)
	m.answer(q, v)
}

// behind decides on a call that does not wait while others do: it may have what
// those before it cannot use now.
func (m *model) behind(q *modelCall) verdict {
	m.walk()
	whole := m.ended != ReasonNone && m.ended != ReasonFraction && len(m.skipped) == 0
	if whole || m.barred(q.level) {
		return verdict{reason: ReasonInFlight}
	}
	return m.decide(q, len(m.waiting)+1)
}

// wait is Acquire and Pace.
func (m *model) wait(q *modelCall, over bool) {
	if m.cfg.Mode == Off {
		q.done, q.at = true, m.now
		return
	}
	if over {
		m.answer(q, verdict{reason: ReasonCanceled})
		return
	}
	q.tenant = m.tenant(q.key)
	if q.verb == pace && len(m.paced) > 0 {
		m.integrate()
		if len(m.paced) > 0 {
			m.paced = m.paced[1:]
			m.working--
			m.walk()
		}
	}
	if !m.enforces() {
		m.observe(q)
		return
	}
	v := m.decide(q, len(m.waiting)+1)
	switch {
	case v.reason == ReasonOversized:
		m.reject(q, v)
		return
	case v.reason == ReasonNone && len(m.waiting) == 0:
		m.admit(q)
		m.answer(q, v)
		return
	}
	q.since, q.lookSince = m.now, m.now
	q.tenant = m.tenant(q.key) // others may have been forgotten meanwhile
	if v := m.tooLate(q); v.reason != ReasonNone {
		m.reject(q, v)
		return
	}
	if !m.place(q) {
		v := m.behind(q)
		if v.reason != ReasonNone || m.ended != ReasonNone {
			m.reject(q, verdict{reason: ReasonQueueFull, weight: v.weight})
			return
		}
		m.overtake(q.level)
		m.admit(q)
		m.answer(q, v)
		return
	}
	m.join(q)
	m.walk()
	if !q.done {
		q.measured = true
		m.stats.Waits++
		q.lookKind = q.holding
		m.setLook(q)
	}
}

func (m *model) tooLate(q *modelCall) verdict {
	if !m.enforcesTokens() {
		return verdict{}
	}
	need, w, own := m.tokensIn(q, q.level)
	v := verdict{weight: w, after: need}
	switch {
	case need <= q.until-m.now && (m.cfg.MaxWait <= 0 || need <= int64(m.cfg.MaxWait)):
		return verdict{}
	case own:
		v.reason = ReasonTenantRate
	case need > q.until-m.now:
		v.reason = ReasonDeadline
	default:
		v.reason = ReasonMaxWait
	}
	return v
}

func (m *model) charge(key string, c Cost) {
	if m.cfg.Mode == Off {
		return
	}
	t := m.tenant(key)
	m.tokens.take(m.now, c)
	if t != nil {
		t.tokens.take(m.now, c)
	}
	m.walk()
}

func (m *model) setFraction(f float64) {
	if math.IsNaN(f) {
		return
	}
	if f = min(f, 1); f < 1e-9 {
		f = 0
	}
	if m.fraction == 1 {
		m.integrated, m.debt, m.wanted = m.now, 0, 0
	}
	m.integrate()
	m.fraction = f
	if f == 1 {
		m.working -= len(m.paced)
		m.paced, m.debt = nil, 0
	}
	m.walk()
}

func (m *model) setPressure(on bool) {
	m.pressed = on
	m.walk()
}

func (m *model) reconfigure(cfg Config) {
	m.integrate()
	m.cfg = cfg.withDefaults()
	for _, w := range m.waiting {
		if w.tenant != nil {
			w.tenant.waiting--
		}
		if w.tenant = m.tenant(w.key); w.tenant != nil {
			w.tenant.waiting++
		}
		m.classify(w)
		m.setLook(w)
	}
	m.setRates()
	if m.cfg.MaxKeys > 0 {
		for _, t := range m.known {
			t.seen = true
		}
	}
	m.walk()
	for len(m.waiting) > max(0, m.cfg.Queue.Length) {
		victim := m.newest(0, func(*modelCall) bool { return true })
		m.leave(victim)
		m.answer(victim, verdict{reason: ReasonQueueFull})
	}
	m.settle()
}

// snapshot is Stats.
func (m *model) snapshot() Stats {
	st := m.stats
	st.Name, st.Mode, st.InFlight, st.Limit = m.cfg.Name, m.cfg.Mode, m.inFlight, m.cfg.Limit
	st.Load, st.Fraction, st.Keys = m.load(), m.fraction, len(m.known)
	st.Permits = int64(len(m.held))
	st.Succeeded, st.Ignored, st.Dropped = m.ends[Success], m.ends[Ignored], m.ends[Dropped]
	st.Completed = st.Succeeded + st.Ignored + st.Dropped
	st.Admitted = st.Completed + uint64(st.Permits)
	if m.now-m.peakBegan >= 10e9 {
		m.peakBefore, m.peak, m.peakBegan = m.peak, m.inFlight, m.now
	}
	st.Peak = Cost{
		max(m.peak.Messages, m.peakBefore.Messages),
		max(m.peak.Rows, m.peakBefore.Rows),
		max(m.peak.Bytes, m.peakBefore.Bytes),
	}
	st.WaitTotal = time.Duration(m.waitSum)
	for _, w := range m.waiting {
		st.WaitTotal += time.Duration(m.now - w.since)
		if w.holding == forRoom {
			st.Waiting++
		} else {
			st.Pacing++
		}
	}
	if age := int64(m.cfg.WatchdogAge); age > 0 {
		for _, p := range m.held {
			if p.seen == 0 {
				p.seen = m.now
			}
			st.Oldest = max(st.Oldest, time.Duration(m.now-p.seen))
			if m.now-p.seen >= age {
				st.Overdue++
			}
		}
	}
	return st
}
