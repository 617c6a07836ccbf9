package server

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/topology"
)

const (
	// minStale is the least time after which a silent component is stale: deployed
	// components beat every 10 s or 30 s.
	minStale = 30 * time.Second
	// maxHeartbeat bounds what a component may announce: the memory of one that
	// never comes again lasts six of them.
	maxHeartbeat = 10 * time.Minute
	// lostAfter is how long a broken stream may stay away.
	lostAfter = 3 * time.Second
)

// An entry is one registered component. The registry's mutex guards it. Its
// lists and maps are replaced, never changed, so that a copy of an entry may be
// read without the mutex.
type entry struct {
	controlplane.Status          // its Metrics are what heartbeats brought, its Report has no place in the graph
	upstreams           []string // declared, or by event types; nil: no place known
	edges               []topology.Edge
	registrant
	retired   []uint64      // incarnations that were replaced, the oldest first
	heartbeat time.Duration // announced; 0: not known
	size      int           // bytes of text, about
	streamed  bool          // its last beat came through a stream
	events    uint64        // its count, of a sink
	// session is the open stream that speaks for the component; nil: it
	// heartbeats by itself.
	session *session
	left    time.Time // when the last session ended
}

// A registrant is what registers a component.
type registrant struct {
	peer        string // its connection
	incarnation uint64 // its process; 0: not said, as by stock components
}

// maxRetired is how many replaced incarnations of a component are remembered.
const maxRetired = 8

// staleAfter is how long a component may be silent: three of its heartbeats, so that
// two lost ones are no absence, and 30 s at least.
func (e *entry) staleAfter() time.Duration { return max(3*min(e.heartbeat, maxHeartbeat), minStale) }

// A registry is the server's index of components. What they report goes to the
// controller, outside the registry's lock.
//
// It is the only index: by id. What is asked by event type is kept as counts of
// producers, because a registration must not look at ten thousand others; the rest,
// lists, sessions and stale ones, is found by walking the entries.
//
// One lock for all of it costs a beat about 40 ns; ten thousand agents that
// report every second hold it for half a percent of the time. Readers copy under
// it, and sort and draw without it.
type registry struct {
	limits Limits

	mu          sync.RWMutex
	entries     map[string]*entry
	perPeer     map[string]int
	perPipeline map[string]int // components of each pipeline
	size        int            // over all entries
	events      uint64         // that sinks counted, those included that have left
	producers   convert.Producers
}

func newRegistry(limits Limits) *registry {
	return &registry{
		limits:      limits,
		entries:     map[string]*entry{},
		perPeer:     map[string]int{},
		perPipeline: map[string]int{},
		producers:   convert.Producers{},
	}
}

// put registers c, or registers it anew. Another process than the one before
// replaces that one, which cannot come back. The metrics go, so that a restarted
// component does not inherit its predecessor's. The last report stays until the
// next: to count the component as idle meanwhile would release an overloaded
// pipeline for as long as a reconnection takes.
//
// Incarnations that were replaced are remembered, the last eight of them: during a
// rolling update two processes run under one id, and each would otherwise take the
// registration back from the other for as long as both live. A process that is started
// anew has a new one, so it may always replace.
func (r *registry) put(c controlplane.Component, heartbeat time.Duration, by registrant) (
	report backpressure.Report, old *controlplane.Component, err error,
) {
	if err := r.limits.checkComponent(&c); err != nil {
		return report, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.entries[c.ID]
	size := sizeOf(&c)
	if err := r.roomLocked(before, size, by.peer); err != nil {
		return report, nil, err
	}
	if before != nil && slices.Contains(before.retired, by.incarnation) {
		return report, nil, errReplaced
	}
	now := time.Now()
	fresh := &entry{
		Status:     controlplane.Status{Component: c, Health: topology.HealthStarting, Registered: now, LastHeartbeat: now},
		registrant: by,
		heartbeat:  heartbeat,
		size:       size,
	}
	fresh.Report = backpressure.Report{ServiceID: c.ID, MaxInFlight: c.MaxInFlight}
	if before != nil {
		if !before.Stale {
			fresh.Report = before.Report
		}
		if fresh.retired = before.retired; before.incarnation != 0 && before.incarnation != by.incarnation {
			fresh.retired = append(slices.Clone(before.retired), before.incarnation)
			fresh.retired = fresh.retired[max(0, len(fresh.retired)-maxRetired):]
		}
		if before.incarnation == by.incarnation {
			fresh.events = before.events // the same process goes on counting
		}
		r.forgetLocked(before, before.incarnation != by.incarnation || by.incarnation == 0)
	}
	r.size += fresh.size
	r.entries[c.ID] = fresh
	r.perPeer[by.peer]++
	r.perPipeline[c.PipelineID]++
	r.producers.Add(&c)
	fresh.upstreams = r.producers.Upstreams(&c)
	if before != nil {
		return fresh.placedReport(), &before.Component, nil
	}
	return fresh.placedReport(), nil, nil
}

// members is how many components are registered in the pipeline.
func (r *registry) members(pipeline string) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.perPipeline[pipeline]
}

// roomLocked says whether peer may register size bytes in the place of old, which
// is nil where there is none.
func (r *registry) roomLocked(old *entry, size int, peer string) error {
	room := r.limits.Bytes - r.size
	if old != nil {
		room += old.size
	}
	switch {
	case (old == nil || old.peer != peer) && r.perPeer[peer] >= r.limits.ComponentsPerPeer:
		return reject(TooMany, "this connection has registered %d components, at most %d are taken",
			r.perPeer[peer], r.limits.ComponentsPerPeer)
	case old == nil && len(r.entries) >= r.limits.Components:
		return reject(TooMany, "%d components are registered, at most %d are taken", len(r.entries), r.limits.Components)
	case size > room:
		return reject(TooMany, "%d bytes, and the registry is full", size)
	}
	return nil
}

// remove forgets a component and returns it. An
// incarnation removes only what it registered; 0 removes any, because stock tools
// have none. An unregistration that comes late must not take a successor away.
func (r *registry) remove(id string, incarnation uint64) (controlplane.Component, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	switch {
	case e == nil:
		return controlplane.Component{}, notRegistered(id)
	case incarnation != 0 && incarnation != e.incarnation:
		return controlplane.Component{}, errReplaced
	}
	r.forgetLocked(e, false)
	delete(r.entries, id)
	return e.Component, nil
}

// forgetLocked takes e out of every sum. Its session no longer owns an entry: it
// ends, and its agent registers again unless another process has replaced it.
func (r *registry) forgetLocked(e *entry, replaced bool) {
	r.size -= e.size
	if r.perPeer[e.peer]--; r.perPeer[e.peer] <= 0 {
		delete(r.perPeer, e.peer)
	}
	if r.perPipeline[e.PipelineID]--; r.perPipeline[e.PipelineID] <= 0 {
		delete(r.perPipeline, e.PipelineID)
	}
	r.producers.Remove(&e.Component)
	if e.session != nil {
		e.session.end(replaced)
		e.session = nil
	}
}

// join makes own the stream that speaks for its component, if it belongs to the
// incarnation that registered it; 0 is any. It returns the component's pipeline.
func (r *registry) join(
	own *session, incarnation uint64, heartbeat time.Duration, upstreams []string,
) (pipeline string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[own.id]
	if e == nil {
		return "", notRegistered(own.id)
	}
	if incarnation != 0 && incarnation != e.incarnation {
		return "", errReplaced
	}
	changed := e.Component
	if len(upstreams) > 0 {
		changed.Upstreams = upstreams
	}
	if err := r.limits.checkComponent(&changed); err != nil {
		return "", err
	}
	if e.session != nil {
		e.session.end(incarnation == 0) // of the same process it is a broken stream
	}
	e.Component = changed
	e.upstreams = r.producers.Upstreams(&changed)
	e.session, e.heartbeat, e.LastHeartbeat = own, heartbeat, time.Now()
	return e.PipelineID, nil
}

// leave ends own's speaking for its component, if no other stream has taken over.
func (r *registry) leave(own *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[own.id]; e != nil && e.session == own {
		e.session, e.left = nil, time.Now()
	}
}

// sessions returns the open streams, to send to each without the lock.
func (r *registry) sessions() []*session {
	r.mu.RLock()
	defer r.mu.RUnlock()
	open := make([]*session, 0, len(r.entries))
	for _, e := range r.entries {
		if e.session != nil {
			open = append(open, e.session)
		}
	}
	return open
}

// stock returns the ids of the components that beat through flowctl's services
// alone, without those that are stale.
func (r *registry) stock() (ids []string) {
	now := time.Now()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for id, e := range r.entries {
		if stale, _ := e.silent(now); e.incarnation == 0 && !e.streamed && !stale {
			ids = append(ids, id)
		}
	}
	return ids
}

// beat takes b: it finds the component, works out what would become of it, and
// only when all of that is acceptable applies it. It returns the report for the
// controller of its pipeline; check is a controller's judgement.
func (r *registry) beat(
	b *beat, check func(backpressure.Report) error,
) (report backpressure.Report, pipeline string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[b.id]
	if e == nil {
		return report, "", notRegistered(b.id)
	}
	if b.session != nil && b.session != e.session {
		return report, "", errReplaced
	}
	next, err := r.validateLocked(e, b)
	if err != nil {
		return report, "", err
	}
	if err := check(next.report); err != nil {
		return report, "", rejectedReport(err)
	}
	r.applyLocked(e, b, next)
	return e.placedReport(), e.PipelineID, nil
}

// A change is what a beat makes of its component: worked out first, applied when all
// of it was accepted. Maps are made anew and never changed, so a list of components
// that was given out stays as it was.
type change struct {
	report  backpressure.Report
	metrics map[string]float64
	grown   int // bytes
}

// validateLocked works out what b makes of e, and changes nothing. A stock heartbeat
// says everything by its metrics; a stream's beat has a report, or leaves the last one
// as it was.
func (r *registry) validateLocked(e *entry, b *beat) (change, error) {
	next := change{metrics: e.Metrics}
	if len(b.metrics) > 0 {
		grown, err := r.limits.checkMetrics(e.Metrics, b.metrics)
		if err != nil {
			return change{}, err
		}
		next.grown = grown
		next.metrics = make(map[string]float64, len(e.Metrics)+len(b.metrics))
		maps.Copy(next.metrics, e.Metrics)
		maps.Copy(next.metrics, b.metrics)
	}
	if len(b.edges) > 0 {
		if err := r.limits.checkEdges(b.edges); err != nil {
			return change{}, err
		}
		next.grown += sizeOfEdges(b.edges) - sizeOfEdges(e.edges)
	}
	if next.grown > 0 && r.size+next.grown > r.limits.Bytes {
		return change{}, reject(TooMany, "%d bytes more, and the registry is full", next.grown)
	}
	switch {
	case b.session == nil:
		next.report = convert.ReportFromMetrics(e.ID, e.MaxInFlight, next.metrics)
		next.report.ErrorRate = e.Report.ErrorRate
		if rate, ok := convert.ErrorRate(e.Metrics, next.metrics); ok {
			next.report.ErrorRate = rate
		}
	case b.loaded:
		next.report = b.report
	default:
		next.report = e.Report // as before
	}
	next.report.Time = b.time
	return next, nil
}

// applyLocked cannot fail. A beat is also the end of a component's start, unless it
// says otherwise.
func (r *registry) applyLocked(e *entry, b *beat, next change) {
	if e.Kind == topology.KindSink {
		count := uint64(min(max(0, next.metrics[controlplane.MetricEvents]), 1<<53))
		if count < e.events { // it has begun anew
			e.events = 0
		}
		r.events += count - e.events
		e.events = count
	}
	e.Report, e.Metrics = next.report, next.metrics
	if len(b.edges) > 0 {
		e.edges = b.edges
	}
	e.size += next.grown
	r.size += next.grown
	e.streamed = b.session != nil
	e.Stale = false
	e.LastHeartbeat = time.Now()
	switch {
	case b.health != "" && b.health != topology.HealthUnknown:
		e.Health = b.health
	case e.Health == topology.HealthStarting:
		e.Health = topology.HealthHealthy
	}
}

// placedReport is the entry's report with its place in the graph.
func (e *entry) placedReport() backpressure.Report {
	report := e.Report
	report.ServiceID, report.Kind, report.Upstreams = e.ID, e.Kind, e.upstreams
	return report
}

// placeConsumers works out anew what feeds the pipeline's consumers of events, and
// returns the reports of those whose upstreams changed.
func (r *registry) placeConsumers(pipeline string, events []string) []backpressure.Report {
	if len(events) == 0 {
		return nil
	}
	reads := func(event string) bool { return slices.Contains(events, event) }
	r.mu.Lock()
	defer r.mu.Unlock()
	var moved []backpressure.Report
	for _, e := range r.entries {
		if e.PipelineID != pipeline || e.Upstreams != nil || !slices.ContainsFunc(e.InputEventTypes, reads) {
			continue
		}
		if upstreams := r.producers.Upstreams(&e.Component); !slices.Equal(upstreams, e.upstreams) {
			e.upstreams = upstreams
			if !e.Stale {
				moved = append(moved, e.placedReport())
			}
		}
	}
	return moved
}

// expire removes what has been stale for as long again as it took to become
// stale. It returns those, and the merely stale, which leave the decision
// and stay on the page: an operator wants to see what is missing. A component whose
// stream is open is never removed: its connection would end its agent anyway, and a
// stream that is only quiet belongs to a component that is there.
func (r *registry) expire(now time.Time) (gone, stale []controlplane.Component) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, e := range r.entries {
		silent := now.Sub(e.LastHeartbeat)
		e.Stale = silent > e.staleAfter()
		switch {
		case silent > 2*e.staleAfter() && e.session == nil:
			r.forgetLocked(e, false)
			delete(r.entries, id)
			gone = append(gone, e.Component)
		case e.Stale:
			stale = append(stale, e.Component)
		}
	}
	return gone, stale
}

// counted is how many events the sinks have counted since the server started.
func (r *registry) counted() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.events
}

// copies returns copies of the entries in order of their ids. Ten thousand take
// a millisecond under the lock; they are sorted outside of it.
func (r *registry) copies() []*entry {
	r.mu.RLock()
	all := make([]entry, 0, len(r.entries))
	for _, e := range r.entries {
		all = append(all, *e)
	}
	r.mu.RUnlock()
	sorted := make([]*entry, len(all)) // an entry has 600 bytes: too many to move
	for i := range all {
		sorted[i] = &all[i]
	}
	slices.SortFunc(sorted, func(a, b *entry) int { return strings.Compare(a.ID, b.ID) })
	return sorted
}

// get returns the component id, and whether it is registered.
func (r *registry) get(id string) (controlplane.Status, bool) {
	r.mu.RLock()
	e := r.entries[id]
	if e == nil {
		r.mu.RUnlock()
		return controlplane.Status{}, false
	}
	copied := *e
	r.mu.RUnlock()
	return copied.status(time.Now()), true
}

// statuses returns the components that keep accepts, in order of their ids.
func (r *registry) statuses(keep func(*controlplane.Status) bool) []controlplane.Status {
	var statuses []controlplane.Status
	now := time.Now()
	for _, e := range r.copies() {
		if status := e.status(now); keep == nil || keep(&status) {
			statuses = append(statuses, status)
		}
	}
	return statuses
}

// status is what e, a copy, says at the time now. It shares nothing with the
// registry.
func (e *entry) status(now time.Time) controlplane.Status {
	status := e.Status
	status.Stale, status.Lost = e.silent(now)
	status.InputEventTypes = slices.Clone(e.InputEventTypes)
	status.OutputEventTypes = slices.Clone(e.OutputEventTypes)
	status.Upstreams = slices.Clone(e.Upstreams)
	status.Metadata = maps.Clone(e.Metadata)
	status.Report = e.placedReport()
	status.Report.Upstreams = slices.Clone(e.upstreams)
	status.Metrics = maps.Clone(e.Metrics)
	if e.streamed { // a stream carries each figure once: stock tools look for them among the metrics
		if status.Metrics == nil {
			status.Metrics = map[string]float64{}
		}
		convert.MetricsFromReport(status.Metrics, &status.Report, e.active())
	}
	return status
}

// active says whether the component itself sees backpressure as active.
func (e *entry) active() bool {
	if e.session != nil {
		return e.session.lastSent().Active
	}
	return e.Metrics[controlplane.MetricActive] > 0
}

// silent says whether the component's beats have stopped, and whether its
// stream broke.
func (e *entry) silent(now time.Time) (stale, lost bool) {
	return now.Sub(e.LastHeartbeat) > e.staleAfter(), e.session == nil && !e.left.IsZero() && now.Sub(e.left) > lostAfter
}
