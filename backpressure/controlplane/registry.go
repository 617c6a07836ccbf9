package controlplane

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
)

// minStale is the least time after which a silent component is stale: deployed
// components beat every 10 s or 30 s.
const minStale = 30 * time.Second

// An entry is one registered component. The registry's mutex guards it.
type entry struct {
	Status    // its Metrics are in metrics
	metrics   metricList
	peer      string        // the connection that registered it
	heartbeat time.Duration // announced; 0: not known
	edges     []Edge
	size      int // bytes of text, about
	// session is the open Coordinate stream that speaks for the component; nil:
	// it heartbeats by itself.
	session *session
	left    time.Time // when the last one ended
}

// maxHeartbeat bounds what a component may announce: the memory of one that
// never comes again lasts six of them.
const maxHeartbeat = 10 * time.Minute

// lostAfter is how long a broken stream may stay away.
const lostAfter = 3 * time.Second

func (e *entry) staleAfter() time.Duration { return max(3*min(e.heartbeat, maxHeartbeat), minStale) }

// registry is the server's soft state: who is there. What they report goes to
// the controller, outside the registry's lock.
type registry struct {
	limits Limits

	mu      sync.Mutex
	entries map[string]*entry
	changes uint64   // of who is there
	listed  []*entry // in order of their ids; replaced, and nil after a change
	perPeer map[string]int
	size    int // over all entries
	// producers lists the components that write an event type.
	producers map[string]map[string]bool
}

func newRegistry(limits Limits) *registry {
	return &registry{
		limits:    limits,
		entries:   map[string]*entry{},
		perPeer:   map[string]int{},
		producers: map[string]map[string]bool{},
	}
}

// put registers c, or registers it anew: its metrics go, so that a restarted
// component does not inherit its predecessor's. Its last report stays until it
// beats: to count it as idle meanwhile would release an overloaded pipeline for
// as long as a reconnection takes.
func (r *registry) put(c Component, heartbeat time.Duration, peer string) (backpressure.Report, *Error) {
	if err := r.limits.checkComponent(&c); err != nil {
		return backpressure.Report{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.entries[c.ID]
	if old == nil || old.peer != peer {
		if r.perPeer[peer] >= r.limits.ComponentsPerPeer {
			return backpressure.Report{}, refuse(TooMany, "this connection has registered %d components, at most %d are taken", r.perPeer[peer], r.limits.ComponentsPerPeer)
		}
		if old == nil && len(r.entries) >= r.limits.Components {
			return backpressure.Report{}, refuse(TooMany, "%d components are registered, at most %d are taken", len(r.entries), r.limits.Components)
		}
	}
	now := time.Now()
	fresh := &entry{
		Status:    Status{Component: c, Health: HealthStarting, Registered: now, LastHeartbeat: now},
		peer:      peer,
		heartbeat: heartbeat,
		size:      sizeOf(&c),
	}
	fresh.Report = backpressure.Report{ServiceID: c.ID, MaxInFlight: c.MaxInFlight, Role: c.Role}
	room := r.limits.Bytes - r.size
	if old != nil {
		room += old.size
	}
	if fresh.size > room {
		return backpressure.Report{}, refuse(TooMany, "%d bytes, and the registry is full", fresh.size)
	}
	if old != nil {
		if !old.Stale {
			fresh.Report = old.Report
			fresh.Report.Role = c.Role
		}
		r.forgetLocked(old)
	}
	r.size += fresh.size
	r.entries[c.ID] = fresh
	r.changedLocked()
	r.perPeer[peer]++
	for _, event := range c.OutputEventTypes {
		if r.producers[event] == nil {
			r.producers[event] = map[string]bool{}
		}
		r.producers[event][c.ID] = true
	}
	return r.reportLocked(fresh), nil
}

func (r *registry) remove(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return false
	}
	r.deleteLocked(e)
	return true
}

func (r *registry) deleteLocked(e *entry) {
	r.forgetLocked(e)
	delete(r.entries, e.ID)
	r.changedLocked()
}

func (r *registry) changedLocked() {
	r.changes++
	r.listed = nil
}

func (r *registry) forgetLocked(e *entry) {
	r.size -= e.size
	if r.perPeer[e.peer]--; r.perPeer[e.peer] <= 0 {
		delete(r.perPeer, e.peer)
	}
	for _, event := range e.OutputEventTypes {
		delete(r.producers[event], e.ID)
		if len(r.producers[event]) == 0 {
			delete(r.producers, event)
		}
	}
	if e.session != nil {
		e.session.replaced()
		e.session = nil // it speaks for this entry no more
	}
}

// ofLocked is the entry of id. A stream knows the one that it speaks for: with
// ten thousand, finding it is most of what a beat costs the registry.
func (r *registry) ofLocked(id string, own *session) *entry {
	if own != nil && own.entry.session == own {
		return own.entry
	}
	return r.entries[id]
}

// beat notes a sign of life, through the stream own if not nil. Readings join the
// stored metrics; a health of unknown keeps the stored one; report replaces the
// stored report, and may go by the metrics unless it came through a stream. It
// returns what to tell the controller. A beat that check refuses changes nothing.
func (r *registry) beat(id string, own *session, health Health, readings []reading, report func(*entry) backpressure.Report, check func(backpressure.Report) error) (backpressure.Report, *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.ofLocked(id, own)
	if e == nil {
		return backpressure.Report{}, notRegistered(id)
	}
	grown := 0
	if len(readings) > 0 {
		var err *Error
		if grown, err = r.limits.checkMetrics(e.metrics, readings); err != nil {
			return backpressure.Report{}, err
		}
	}
	if grown > 0 && r.size+grown > r.limits.Bytes {
		return backpressure.Report{}, refuse(TooMany, "%d bytes of metrics, and the registry is full", grown)
	}
	before := e.metrics
	if own == nil {
		e.metrics = slices.Clone(before).put(readings)
	}
	told := report(e)
	if err := check(told); err != nil {
		e.metrics = before
		return backpressure.Report{}, refusalOf(err)
	}
	if own != nil {
		e.metrics = e.metrics.put(readings)
	}
	e.Report = told
	e.size += grown
	r.size += grown
	e.Stale = false
	e.LastHeartbeat = time.Now()
	if health > HealthStopping {
		health = HealthUnknown
	}
	if health != HealthUnknown {
		e.Health = health
	} else if e.Health == HealthStarting {
		e.Health = HealthHealthy
	}
	return r.reportLocked(e), nil
}

// observe keeps the edges that a component has seen. They have been checked.
func (r *registry) observe(id string, edges []Edge) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return nil
	}
	grown := 0
	for i := range edges {
		grown += len(edges[i].Upstream) + len(edges[i].Endpoint) + edgeSize
	}
	for i := range e.edges {
		grown -= len(e.edges[i].Upstream) + len(e.edges[i].Endpoint) + edgeSize
	}
	if grown > 0 && r.size+grown > r.limits.Bytes {
		return refuse(TooMany, "%d bytes of edges, and the registry is full", grown)
	}
	e.size += grown
	r.size += grown
	e.edges = edges
	return nil
}

// reportLocked is the entry's report with its place in the graph.
func (r *registry) reportLocked(e *entry) backpressure.Report {
	report := e.Report
	report.ServiceID = e.ID
	report.Role = e.Role
	report.Upstreams = r.upstreamsLocked(e)
	return report
}

// upstreamsLocked are the declared upstreams, or the producers of what the
// component reads: never everything of the type before.
func (r *registry) upstreamsLocked(e *entry) []string {
	if e.Upstreams != nil {
		return e.Upstreams
	}
	var ids []string
	for _, event := range e.InputEventTypes {
		for id := range r.producers[event] {
			if id != e.ID && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
			if len(ids) == backpressure.MaxUpstreams {
				break
			}
		}
	}
	slices.Sort(ids)
	return ids
}

// consumersOf returns reports that place the consumers of events anew.
func (r *registry) consumersOf(events []string) []backpressure.Report {
	if len(events) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var reports []backpressure.Report
	for _, e := range r.entries {
		if e.Upstreams == nil && slices.ContainsFunc(e.InputEventTypes, func(event string) bool { return slices.Contains(events, event) }) {
			reports = append(reports, r.reportLocked(e))
		}
	}
	return reports
}

// expire removes what has been stale for as long again as it took to become
// stale. It returns the ids of those, and of the merely stale.
func (r *registry) expire(now time.Time) (gone, stale []string) {
	r.each(func(e *entry) {
		silent := now.Sub(e.LastHeartbeat)
		e.Stale = silent > e.staleAfter()
		switch {
		case silent > 2*e.staleAfter() && e.session == nil:
			r.deleteLocked(e)
			gone = append(gone, e.ID)
		case e.Stale:
			stale = append(stale, e.ID)
		}
	})
	return gone, stale
}

// together is how many entries are looked at under one lock: a look at ten
// thousand must not hold up their beats for as long.
const together = 256

// each calls look for every entry, in order of their ids, with the lock held.
func (r *registry) each(look func(*entry)) {
	all := r.inOrder()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range all {
		if i%together == together-1 {
			r.mu.Unlock()
			r.mu.Lock()
		}
		if e := r.entries[e.ID]; e != nil { // perhaps registered anew
			look(e)
		}
	}
}

// inOrder returns the entries in order of their ids, in a list that is shared.
// Sorting, too, must not hold up a beat.
func (r *registry) inOrder() []*entry {
	all, changes, sorted := r.listing()
	if !sorted {
		slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(a.ID, b.ID) })
		r.list(all, changes)
	}
	return all
}

func (r *registry) listing() (all []*entry, changes uint64, sorted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listed != nil {
		return r.listed, r.changes, true
	}
	return slices.AppendSeq(make([]*entry, 0, len(r.entries)), maps.Values(r.entries)), r.changes, false
}

// list keeps what was sorted, unless the entries changed meanwhile.
func (r *registry) list(all []*entry, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changes == changes {
		r.listed = all
	}
}

func (r *registry) get(id string) (Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return Status{}, false
	}
	return r.statusLocked(e).clone(), true
}

// statuses returns the components that keep accepts, in order of their ids.
func (r *registry) statuses(keep func(*Status) bool) []Status {
	var statuses []Status
	r.each(func(e *entry) {
		if status := r.statusLocked(e); keep == nil || keep(&status) {
			statuses = append(statuses, status)
		}
	})
	for i := range statuses {
		statuses[i] = statuses[i].clone()
	}
	return statuses
}

// statusLocked shares its lists and its metadata with the entry, where they are
// replaced and never changed.
func (r *registry) statusLocked(e *entry) Status {
	status := e.Status
	status.Stale, status.Lost = e.silentLocked()
	status.Metrics = e.metrics.all()
	status.Report = r.reportLocked(e)
	return status
}

// silentLocked says whether the component's beats have stopped, and whether its
// stream broke.
func (e *entry) silentLocked() (stale, lost bool) {
	return time.Since(e.LastHeartbeat) > e.staleAfter(), e.session == nil && !e.left.IsZero() && time.Since(e.left) > lostAfter
}
