package connpool

import (
	"slices"
	"sync/atomic"
	"time"
)

var scaleReasons = [...]ScaleReason{UpMinimum, UpLoad, UpWaiting, UpUndrain, UpReplace, DownIdle, DownLoad, DownAge, DownUnhealthy, DownLost}

// counters only ever grow.
type counters struct {
	dials, dialFailures, drains, drainsForced, ejections atomic.Uint64
	moved, retries, saturated, unreachable, breakerOpen  atomic.Uint64
	abandoned                                            atomic.Uint64
	scale                                                [len(scaleReasons)]atomic.Uint64
}

func (c *counters) scaled(r ScaleReason) {
	for i, known := range scaleReasons {
		if known == r {
			c.scale[i].Add(1)
		}
	}
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
		Endpoint: p.target, MinConnections: p.cfg.MinConnections, MaxConnections: p.cfg.MaxConnections,
		TotalUseCount: closedUses, ScaleEvents: make(map[ScaleReason]uint64, len(scaleReasons)),
		Dials: c.dials.Load(), DialFailures: c.dialFailures.Load(), Drains: c.drains.Load(),
		DrainsForced: c.drainsForced.Load(), Ejections: c.ejections.Load(),
		Moved: c.moved.Load(), Retries: c.retries.Load(), Saturated: c.saturated.Load(),
		Unreachable: c.unreachable.Load(), BreakerOpen: c.breakerOpen.Load(), Abandoned: c.abandoned.Load(),
		Breaker: p.breaker.current(), LastError: retry.err, LearnedLimit: int(p.hint.Load()),
	}
	if !retry.next.IsZero() {
		st.NextAttempt = max(retry.next.Sub(now), 0)
	}
	for i, r := range scaleReasons {
		st.ScaleEvents[r] = c.scale[i].Load()
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
			LearnedLimit: int(s.learn.limit.Load()), Uses: int64(s.uses()), Age: now.Sub(s.created),
			RoundTrip: time.Duration(s.health.took.Load()),
		}
		uses += cs.Uses
		st.count(cs)
		st.OldestStream = max(st.OldestStream, s.longest(now))
	}
	st.TotalUseCount += uses
	if n := len(st.Connections); n > 0 {
		st.AverageUseCount = float64(uses) / float64(n)
	}
	return st
}

// count adds one connection to the sums.
func (st *Stats) count(cs ConnStats) {
	st.Streams += cs.Streams
	if cs.State == StateClosed {
		return
	}
	i := 0
	for i < len(st.Connections) && st.Connections[i].ID < cs.ID {
		i++
	}
	st.Connections = append(st.Connections, ConnStats{})
	copy(st.Connections[i+1:], st.Connections[i:])
	st.Connections[i] = cs
	st.TotalConnections++
	st.OldestConnection = max(st.OldestConnection, cs.Age)
	if cs.RoundTrip > 0 && (st.RoundTrip == 0 || cs.RoundTrip < st.RoundTrip) {
		st.RoundTrip = cs.RoundTrip
	}
	switch cs.State {
	case StateReady:
		st.HealthyConnections++
		st.StreamCapacity += cs.Limit
		if cs.Streams == 0 {
			st.IdleConnections++
		}
	case StateConnecting:
		st.Connecting++
	case StateEjected:
		st.Ejected++
	case StateDraining:
		st.Draining++
	}
}

func waitBucket(d time.Duration) int {
	i := 0
	for i < WaitBucketCount-1 && d > time.Millisecond<<i {
		i++
	}
	return i
}
