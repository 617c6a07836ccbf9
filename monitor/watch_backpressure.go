package monitor

import (
	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

// WatchController watches the pipeline's decision, and with it the services of
// its snapshot. It makes this process the one that exports the pipeline's
// families: watch a controller where the decision is made, and only there.
func (m *Monitor) WatchController(c interface{ Snapshot() backpressure.Snapshot }) (stop func()) {
	// A path that ends takes its count along; a counter must not fall.
	var total, last uint64
	return m.Watch(SourceFunc(func(d *Draft) {
		s := c.Snapshot()
		if s.Activations < last {
			last = 0
		}
		total, last = total+s.Activations-last, s.Activations
		s.Activations = total
		d.addDecision(&s)
		for i := range s.Services {
			d.addReport(&s.Services[i])
		}
	}))
}

func (d *Draft) addDecision(s *backpressure.Snapshot) {
	p := d.Pipeline()
	p.Throughput, p.Latency = s.TotalThroughput, s.EndToEndLatency
	p.Load, p.WorstLoad, p.AggregateLoad, p.WorstService = s.Load, s.WorstLoad, s.AggregateLoad, s.WorstService
	p.Active, p.Fraction, p.ActiveTime = s.Active, s.Fraction, s.ActiveTime
	p.ActivateAt, p.RecoverAt = s.Activation, s.Recovery
	p.Activations, p.Recoveries = s.Activations, s.Activations
	for _, path := range s.Paths {
		if !path.Since.IsZero() { // its activation has not ended
			p.Recoveries -= min(1, p.Recoveries)
			if p.Since.IsZero() || path.Since.Before(p.Since) {
				p.Since = path.Since
			}
		}
	}
	d.SignalsDropped(s.SignalsDropped)
	for reason, n := range s.Rejected {
		d.ReportsRejected(reason.String(), n)
	}
}

func (d *Draft) addReport(r *backpressure.ServiceState) {
	v := d.Service(r.ServiceID)
	if k := known(r.Kind); k != topology.KindUnknown {
		v.Kind = k
	}
	v.Heartbeats, v.HeartbeatAge = true, r.Age
	if v.Upstreams == nil {
		v.Upstreams = r.Upstreams
	}
	v.reported = reported{
		load: r.Load, inFlight: r.InFlight, limit: r.MaxInFlight, queue: r.QueueDepth,
		throughput: r.Throughput, latency: r.Latency, errors: r.ErrorRate, fraction: r.Admitted,
	}
	v.hasReport = true
}

// WatchAgent watches the agent that speaks for the service of that id: the
// fraction that it was told, and its reconnections to the control plane. It
// also says that this process looks others up; time those calls with
// [Monitor.ObserveDiscovery].
func (m *Monitor) WatchAgent(serviceID string, a interface {
	Stats() backpressure.AgentStats
},
) (stop func()) {
	m.discovers.Store(true)
	return m.Watch(SourceFunc(func(d *Draft) {
		s := a.Stats()
		v := d.Service(serviceID)
		v.Local = true
		v.Fraction, v.HasFraction = s.Fraction, true
		d.Reconnections(serviceID, Other, 0)
		for reason, n := range s.Reconnects {
			d.Reconnections(serviceID, reason, n)
		}
	}))
}
