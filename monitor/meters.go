package monitor

import (
	"cmp"
	"math"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/internal/rate"
	"github.com/withobsrvr/sluice/topology"
)

// latencyMeter smooths the latencies that events were observed with. Observing
// is three additions that nobody waits for: it may happen for every batch.
type latencyMeter struct {
	count, sum atomic.Int64 // sum in nanoseconds
	newest     atomic.Int64 // when, in nanoseconds since 1970

	// Of who reads, one at a time.
	counted, summed int64
	mean            float64
	read            time.Time
}

const (
	latencyMemory   = 10 * time.Second // the time constant of the mean
	latencyPatience = time.Minute      // after which a silent meter says nothing
)

func (l *latencyMeter) observe(took time.Duration, now time.Time) {
	if took < 0 {
		return // clocks that differ
	}
	l.sum.Add(int64(took))
	l.count.Add(1)
	l.newest.Store(now.UnixNano())
}

// recent returns the mean of what was observed lately. Between two readings all
// observations weigh the same.
func (l *latencyMeter) recent(now time.Time) (time.Duration, bool) {
	count, sum := l.count.Load(), l.sum.Load()
	silent := now.Sub(time.Unix(0, l.newest.Load()))
	if count > l.counted {
		weight := 1.0
		if !l.read.IsZero() && now.Sub(l.read) < latencyPatience {
			// At least a little weight, so that a burst at one instant counts too.
			weight = max(0.02, 1-math.Exp(-float64(now.Sub(l.read))/float64(latencyMemory)))
		}
		l.mean += weight * (float64(sum-l.summed)/float64(count-l.counted) - l.mean)
		l.counted, l.summed, l.read = count, sum, now
	}
	if count == 0 || silent >= latencyPatience {
		return 0, false
	}
	return time.Duration(l.mean), true
}

// meters derive rates and shares from the counters of one snapshot and the former
// ones, where no source gave the figure itself. They are used while building only.
type meters struct {
	interval time.Duration
	services map[string]*serviceMeter
	edges    map[[2]string]*rate.Meter
	events   uint64 // that left local sinks
}

type serviceMeter struct {
	events           rate.Meter
	handled          uint64 // by a sink
	finished, failed meter
	calls, gate      shareMeter
	ended            time.Time // when one last had finished
	peaks            peakMeter
	seen             time.Time
}

// meter is the smoothed growth of a counter per second, of which shares are made:
// they look further back than a rate, or one call a minute would have none.
type meter struct {
	at   time.Time
	last float64
	rate float64
}

// shareMeter is the recent share that one counter has in another.
type shareMeter struct {
	part, whole meter
	moved       time.Time // when the whole last grew
}

func (m *shareMeter) update(now time.Time, part, whole float64, memory time.Duration) float64 {
	if m.whole.at.IsZero() || whole != m.whole.last {
		m.moved = now
	}
	p, w := m.part.update(now, part, memory), m.whole.update(now, whole, memory)
	if w <= 0 || now.Sub(m.moved) >= ratioPatience {
		return 0
	}
	return min(1, p/w)
}

// ratioPatience is how long a ratio outlives the last RPC that it is made of. It
// is the time after which alerts on it fire: one failure alone never does.
const ratioPatience = time.Minute

// shortest is the least time between two looks that a rate is made of.
const shortest = 200 * time.Millisecond

func (m *meter) update(now time.Time, total float64, memory time.Duration) float64 {
	elapsed := now.Sub(m.at)
	switch {
	case m.at.IsZero() || total < m.last:
		m.at, m.last = now, total
	case elapsed >= shortest:
		weight := 1 - math.Exp(-float64(elapsed)/float64(memory))
		m.rate += weight * ((total-m.last)/elapsed.Seconds() - m.rate)
		m.at, m.last = now, total
	}
	return m.rate
}

// peakMeter keeps a maximum for one to two intervals, so that each of several
// readers sees a peak.
type peakMeter struct {
	since           time.Time
	current, former int64
}

func (p *peakMeter) update(now time.Time, peak int64, interval time.Duration) int64 {
	if now.Sub(p.since) >= interval {
		if now.Sub(p.since) >= 2*interval {
			p.current = 0
		}
		p.former, p.current, p.since = p.current, 0, now
	}
	p.current = max(p.current, peak)
	return max(p.current, p.former)
}

func (m *meters) complete(d *Draft) {
	if m.services == nil {
		m.services, m.edges = map[string]*serviceMeter{}, map[[2]string]*rate.Meter{}
	}
	for id, v := range d.services {
		v.Blocked = max(v.Blocked, v.waited, v.held)
		if !v.Local {
			v.takeReport()
			continue
		}
		s := m.services[id]
		if s == nil {
			s = &serviceMeter{}
			m.services[id] = s
		}
		s.seen = d.now
		v.Peak = s.peaks.update(d.now, max(v.Peak, v.InFlight), m.interval)
		handled := v.Out.Events
		if v.Kind == topology.KindSink || handled == 0 {
			handled = max(handled, v.In.Events)
		}
		if v.Kind == topology.KindSink {
			handled := cmp.Or(v.Out.Events, v.In.Events) // what it wrote, or else what it took
			if handled < s.handled {                     // it has begun anew
				s.handled = 0
			}
			m.events += handled - s.handled
			s.handled = handled
		}
		if perSecond := s.events.Update(d.now, float64(handled)); v.Throughput == 0 && handled > 0 {
			v.Throughput = perSecond
		}
		if s.finished.at.IsZero() || float64(v.finished) != s.finished.last {
			s.ended = d.now
		}
		finished := s.finished.update(d.now, float64(v.finished), m.interval)
		failed := s.failed.update(d.now, float64(v.failed), m.interval)
		// Both rates fade alike: without an end to it, the last failures would
		// stay a ratio of 1 for as long as nothing else happens.
		if v.ErrorRatio == 0 && finished > 0 && d.now.Sub(s.ended) < ratioPatience {
			v.ErrorRatio = min(1, failed/finished)
		}
		if v.RejectedRatio == 0 { // a rejection of the gate often is one of a call, too
			v.RejectedRatio = max(
				s.calls.update(d.now, float64(v.turnedAway), float64(v.finished+v.turnedAway), m.interval),
				s.gate.update(d.now, float64(v.shed), float64(v.decided), m.interval),
			)
		}
		v.takeReport()
	}
	for key, e := range d.edges {
		g := m.edges[key]
		if g == nil {
			g = &rate.Meter{}
			m.edges[key] = g
		}
		if blocked := g.Update(d.now, e.Blocked.Seconds()); e.BlockedRatio == 0 {
			e.BlockedRatio = min(1, blocked)
		}
	}
	for id, s := range m.services {
		if s.seen != d.now {
			delete(m.services, id)
		}
	}
	for key := range m.edges {
		if d.edges[key] == nil {
			delete(m.edges, key)
		}
	}
	if p := d.pipeline; p != nil && p.Events == 0 {
		p.Events = max(m.events, d.events)
	}
}
