package connpool

import (
	"slices"
	"sync/atomic"
	"time"
)

// Stats is a snapshot of a pool. Reading it changes nothing.
type Stats struct {
	// Endpoint is the pool's target.
	Endpoint string

	// TotalConnections open or reconnecting, draining ones included.
	TotalConnections int
	// HealthyConnections take calls; IdleConnections are those of them that
	// have none.
	HealthyConnections, IdleConnections int
	// Connecting, Ejected and Draining connections.
	Connecting, Ejected, Draining int
	// MaxConnections of the main lane.
	MaxConnections int
	// OldestConnection is the age of the oldest open connection.
	OldestConnection time.Duration
	// Connections one by one, ordered by ID.
	Connections []ConnStats

	// TotalUseCount is the calls so far, on open and closed connections.
	TotalUseCount int64
	// AverageUseCount is the calls a connection, over those open now.
	AverageUseCount float64
	// Streams running now, and the most that the healthy connections carry.
	Streams, StreamCapacity int
	// OldestStream is the age of the oldest running call.
	OldestStream time.Duration
	// StreamLimit is what the server last allowed on a connection, as its
	// SETTINGS said; 0 = it has no limit, or none is connected yet.
	StreamLimit int

	// Waiting calls now; Waits and WaitTime are their number and time so far.
	Waiting  int
	Waits    uint64
	WaitTime time.Duration
	// WaitBuckets counts the waits by length: the i-th those of at most 1 ms·2^i
	// and longer than the bucket before, the last all that were longer.
	WaitBuckets [waitBuckets]uint64
	// Rejected calls so far by reason: those that the pool counts, saturated,
	// unreachable and breaker_open, are always there.
	Rejected map[Reason]uint64
	// Moved calls so far: they went to another connection before anything of them
	// was sent.
	Moved uint64
	// Abandoned streams so far: they were dropped without an end.
	Abandoned uint64
	// Breaker is the circuit breaker's state: "closed" (also when it is off),
	// "open" (every call is rejected) or "half_open" (one call at a time probes).
	Breaker string

	// Opened connections so far by reason, each of which is there: "minimum",
	// "load" (utilization passed four fifths), "waiting" (calls were queued) and
	// "replace" (an old or silent one got a successor).
	Opened map[string]uint64
	// Undrained connections so far: draining ones that were taken back.
	Undrained uint64
	// Closed connections so far, counted when they begin to drain, by reason, each
	// of which is there: "idle", "load" (utilization was low), "age" (MaxAge),
	// "unhealthy" (silent) and "lost" (the server cannot be reached).
	Closed map[string]uint64
	// DrainsForced are connections closed at their DrainDeadline so far.
	DrainsForced uint64
	// Ejections by health checks, and DialFailures, so far.
	Ejections, DialFailures uint64
	// LastError is why the last attempt to connect failed; nil after a success.
	LastError error
	// RoundTrip is the shortest of the connections' own: the time to the server
	// and back where it waits least behind other calls; 0 = unknown.
	RoundTrip time.Duration
}

// ConnStats is a snapshot of one connection.
type ConnStats struct {
	// ID is small and used again after the connection is gone, so that a label
	// made of it stays bounded.
	ID int
	// Lane of the connection; "" = the main one.
	Lane string
	// State is "ready", "connecting" (it lost its transport and is getting
	// another), "ejected" (its health checks failed, it may return) or "draining"
	// (it takes no more calls and closes after its last).
	State string
	// Streams running on it, and the most it may carry now.
	Streams, Limit int
	// Uses is the calls it has had.
	Uses int64
	// Age since it was opened.
	Age time.Duration
	// RoundTrip of its last health check that was answered; 0 = none was.
	RoundTrip time.Duration
}

// An openReason and a closeReason say why the worker opened or gave up a
// connection; they are the keys of Stats.Opened and Stats.Closed.
type (
	openReason  uint8
	closeReason uint8
)

const (
	openMinimum openReason = iota
	openLoad
	openWaiting
	openReplace
	openReasons
)

const (
	closeIdle closeReason = iota
	closeLoad
	closeAge
	closeUnhealthy
	closeLost
	closeReasons
)

func (r openReason) String() string { return name(r, "minimum", "load", "waiting", "replace") }

func (r closeReason) String() string { return name(r, "idle", "load", "age", "unhealthy", "lost") }

// waitBuckets are 1 ms to 512 ms, and one for what is longer.
const waitBuckets = 11

// counters only ever grow.
type counters struct {
	dialFailures, drainsForced, ejections, undrained atomic.Uint64
	moved, abandoned                                 atomic.Uint64
	rejected                                         [reasons]atomic.Uint64
	opened                                           [openReasons]atomic.Uint64
	closed                                           [closeReasons]atomic.Uint64
}

// Stats returns a snapshot. It takes no lock that a call takes, only the one
// under which the worker changes the list of connections.
func (p *Pool) Stats() Stats {
	now := time.Now()
	p.mu.Lock()
	slots, gone, retry, closedUses := p.slots, p.gone, p.retry, p.closedUses
	p.mu.Unlock()
	c := &p.counters
	st := Stats{
		Endpoint: p.target, MaxConnections: p.cfg.MaxConnections, TotalUseCount: closedUses,
		DialFailures: c.dialFailures.Load(), DrainsForced: c.drainsForced.Load(), Ejections: c.ejections.Load(),
		Undrained: c.undrained.Load(), Moved: c.moved.Load(), Abandoned: c.abandoned.Load(),
		Breaker: p.breaker.current().String(), LastError: retry.err, StreamLimit: int(p.streamLimit.Load()),
		Opened: map[string]uint64{}, Closed: map[string]uint64{}, Rejected: map[Reason]uint64{},
	}
	for r := range openReasons {
		st.Opened[r.String()] = c.opened[r].Load()
	}
	for r := range closeReasons {
		st.Closed[r.String()] = c.closed[r].Load()
	}
	for _, r := range []Reason{ReasonSaturated, ReasonUnreachable, ReasonBreakerOpen} {
		st.Rejected[r] = c.rejected[r].Load()
	}
	for _, l := range p.lanes {
		st.Waiting += int(l.waiting.Load())
		st.Waits += l.waits.Load()
		st.WaitTime += time.Duration(l.waitTime.Load())
		for i := range l.waitHist {
			st.WaitBuckets[i] += l.waitHist[i].Load()
		}
	}
	uses := int64(0)
	for _, s := range slots {
		if slices.Contains(gone, s) {
			continue // its uses are in closedUses
		}
		cs := ConnStats{
			ID: s.id, Lane: s.lane.name, State: s.state(), Streams: s.running(), Limit: int(s.limit.Load()),
			Uses: int64(s.uses()), Age: now.Sub(s.created), RoundTrip: time.Duration(s.health.took.Load()),
		}
		uses += cs.Uses
		st.add(cs)
		st.OldestStream = max(st.OldestStream, s.longest(now))
	}
	slices.SortFunc(st.Connections, func(a, b ConnStats) int { return a.ID - b.ID })
	st.TotalUseCount += uses
	if n := len(st.Connections); n > 0 {
		st.AverageUseCount = float64(uses) / float64(n)
	}
	return st
}

// add adds one connection to the sums. One that is being closed has no calls
// and is not listed.
func (st *Stats) add(cs ConnStats) {
	st.Streams += cs.Streams
	switch cs.State {
	case "closed":
		return
	case "ready":
		st.HealthyConnections++
		st.StreamCapacity += cs.Limit
		if cs.Streams == 0 {
			st.IdleConnections++
		}
	case "connecting":
		st.Connecting++
	case "ejected":
		st.Ejected++
	case "draining":
		st.Draining++
	}
	st.Connections = append(st.Connections, cs)
	st.TotalConnections++
	st.OldestConnection = max(st.OldestConnection, cs.Age)
	if cs.RoundTrip > 0 && (st.RoundTrip == 0 || cs.RoundTrip < st.RoundTrip) {
		st.RoundTrip = cs.RoundTrip
	}
}

func waitBucket(d time.Duration) int {
	i := 0
	for i < waitBuckets-1 && d > time.Millisecond<<i {
		i++
	}
	return i
}
