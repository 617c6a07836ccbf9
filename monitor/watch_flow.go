package monitor

import (
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// WatchThrottler watches the gate of the service of that id. A service may have
// several: amounts add up, and the fullest makes the load.
func (m *Monitor) WatchThrottler(serviceID string, t interface{ Stats() flowcontrol.Stats }) (stop func()) {
	return m.Watch(SourceFunc(func(d *Draft) {
		s := t.Stats()
		v := d.Service(serviceID)
		v.Local = true
		v.Load = max(v.Load, s.Load)
		v.InFlight += s.InFlight.Messages
		v.InFlightRows += s.InFlight.Rows
		v.InFlightBytes += s.InFlight.Bytes
		v.Limit += max(0, s.Limit.Messages)
		v.Peak += s.Peak.Messages
		v.QueueDepth += s.Waiting
		v.Fraction, v.HasFraction = s.Fraction, true
		v.waited += s.WaitTotal
		// The sum is ahead of the counts by the waits in progress: a sender that
		// is blocked shows before it unblocks.
		v.Wait.add(&Histogram{Bounds: durationBounds[:], Counts: s.WaitBuckets[:], Sum: s.WaitTotal.Seconds()})
		v.AddAdmissions("admitted", "none", s.Admitted)
		v.decided += s.Admitted
		for _, reason := range flowcontrol.Reasons() {
			v.AddAdmissions("rejected", reason.String(), s.Rejected.Of(reason))
			v.decided += s.Rejected.Of(reason)
			v.shed += s.Rejected.Of(reason)
			if n := s.WouldReject.Of(reason); n > 0 || s.Mode == flowcontrol.Observe {
				v.AddAdmissions("would_reject", reason.String(), n)
			}
		}
	}))
}

// callStats is an *interceptors.Server or an *interceptors.Client.
type callStats interface{ Stats() interceptors.Stats }

// WatchServer watches the interceptors of the servers of the service of that id:
// its traffic, open streams and failures.
func (m *Monitor) WatchServer(serviceID string, server callStats) (stop func()) {
	return m.Watch(SourceFunc(func(d *Draft) {
		s := server.Stats()
		v := d.Service(serviceID)
		v.Local = true
		v.Streams += s.ActiveStreams
		v.StreamLimit += max(0, s.MaxActiveStreams)
		for i := range s.Classes {
			v.addCalls(&s.Classes[i], false)
			v.held += s.Classes[i].Throttled
		}
		v.addFailures(s.Failures)
		for _, r := range s.Rejections {
			n := uint64(max(0, r.Count))
			v.AddRejections(r.Class.String(), string(r.Reason), n)
			v.turnedAway += n
		}
		for i := range s.Tenants {
			if n := s.Tenants[i].Rejected; n > 0 {
				v.AddTenantRejections(s.Tenants[i].Tenant, uint64(n))
			}
		}
	}))
}

// WatchClient watches the interceptors of the clients with which the service of
// that id reads from, or writes to, the service upstreamID. It makes the edge
// between the two. An upstreamID of "" makes none.
func (m *Monitor) WatchClient(serviceID, upstreamID string, client callStats) (stop func()) {
	// A call's times are read while they change, and may come out a little less
	// than before. To Prometheus a counter that falls has begun anew.
	var blocked time.Duration
	return m.Watch(SourceFunc(func(d *Draft) {
		s := client.Stats()
		v := d.Service(serviceID)
		v.Local = true
		var e *Edge
		var sum time.Duration
		if upstreamID != "" {
			e = d.Edge(upstreamID, serviceID)
			e.Counted = true
		}
		for i := range s.Classes {
			c := &s.Classes[i]
			v.addCalls(c, true)
			if e == nil || !c.Class.Bulk() {
				continue
			}
			e.Connected = e.Connected || c.Active > 0
			e.Events += events(&c.Received)
			e.Bytes += uint64(max(0, c.Received.Bytes))
			// While the stream is open and the reader is not in RecvMsg, what
			// the server sends piles up in HTTP/2's windows, and then it waits.
			sum += c.Busy + c.Throttled
		}
		if e != nil {
			blocked = max(blocked, sum)
			e.Blocked += blocked
		}
		v.addFailures(s.Failures)
	}))
}

// addCalls adds what calls moved. A Get moves data to its client and a Put to its
// server: the other direction carries a ticket, or acknowledgements.
func (v *Service) addCalls(c *interceptors.ClassStats, client bool) {
	v.finished += uint64(max(0, c.Completed+c.Failed))
	v.failed += uint64(max(0, c.Failed))
	if !c.Class.Bulk() {
		return // planning moves no data
	}
	if c.Class != interceptors.ClassGet && c.Class != interceptors.ClassPut ||
		client == (c.Class == interceptors.ClassGet) {
		v.In.add(Traffic{Events: events(&c.Received), Bytes: uint64(max(0, c.Received.Bytes))})
	}
	if c.Class != interceptors.ClassGet && c.Class != interceptors.ClassPut ||
		client == (c.Class == interceptors.ClassPut) {
		v.Out.add(Traffic{Events: events(&c.Sent), Bytes: uint64(max(0, c.Sent.Bytes))})
	}
}

func (v *Service) addFailures(failures []interceptors.Failure) {
	for _, f := range failures {
		v.AddError(f.Code.String(), uint64(max(0, f.Count)))
	}
}

// events counts rows, where there are rows, and messages elsewhere. The larger
// of two counters that only grow only grows, too.
func events(t *interceptors.Traffic) uint64 { return uint64(max(0, t.Rows, t.Messages)) }
