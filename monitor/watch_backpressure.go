package monitor

import (
	"time"

	"github.com/withobsrvr/sluice/backpressure"
)

// decider is what WatchController needs of a *backpressure.Controller.
type decider interface {
	Snapshot() backpressure.Snapshot
	Metrics() backpressure.PipelineMetrics
}

// WatchController watches the pipeline's decision, and with it every service
// that reports to it. It makes this process the one that exports the pipeline's
// families: watch a controller where the decision is made, and only there.
func (m *Monitor) WatchController(c *backpressure.Controller) (stop func()) {
	return m.watchDecider(c)
}

func (m *Monitor) watchDecider(c decider) (stop func()) {
	w := &controllerWatch{decider: c}
	return m.Watch(w)
}

type controllerWatch struct {
	decider
	active  bool
	since   time.Time
	settled time.Duration // the time under backpressure of activations that ended
}

func (w *controllerWatch) Collect(d *Draft) {
	s, metrics := w.Snapshot(), w.Metrics()
	p := d.Pipeline()
	p.Throughput, p.Latency = metrics.TotalThroughput, metrics.EndToEndLatency
	p.Load, p.WorstLoad, p.AggregateLoad, p.WorstService = s.Load, s.WorstLoad, s.AggregateLoad, s.WorstService
	p.Active, p.Fraction = s.Active, s.Fraction
	p.ActivateAt, p.RecoverAt = s.Activation, s.Recovery
	p.Activations, p.Recoveries = s.Activations, s.Activations
	for _, path := range s.Paths {
		if path.Active && !path.Since.IsZero() {
			p.Recoveries--
			if p.Since.IsZero() || path.Since.Before(p.Since) {
				p.Since = path.Since
			}
		}
	}
	p.ActiveTime = w.activeTime(d.Time(), p)
	for reason, n := range s.Rejected {
		d.ReportsRejected(reason.String(), n)
	}
	for i := range s.Services {
		r := &s.Services[i]
		v := d.Service(r.ServiceID)
		if r.Role != backpressure.RoleUnknown {
			v.Type = Type(r.Role.String())
		}
		v.Heartbeats, v.HeartbeatAge = true, r.Age
		if v.Upstreams == nil {
			v.Upstreams = r.Upstreams
		}
		if v.Local {
			continue // its own figures are first hand
		}
		v.Load, v.InFlight, v.Limit = r.Load, r.InFlight, r.MaxInFlight
		v.QueueDepth, v.Throughput, v.Latency, v.ErrorRatio = r.QueueDepth, r.Throughput, r.Latency, r.ErrorRate
		v.Fraction, v.HasFraction = r.Admitted, true
	}
}

// activeTime adds up the activations that were seen.
func (w *controllerWatch) activeTime(now time.Time, p *Pipeline) time.Duration {
	since := p.Since
	if since.IsZero() {
		since = now
	}
	if w.active && (!p.Active || since.After(w.since)) { // the former one ended in between
		end := now
		if p.Active {
			end = since
		}
		w.settled += max(0, end.Sub(w.since))
		w.active = false
	}
	if !p.Active {
		return w.settled
	}
	if !w.active {
		w.active, w.since = true, since
	}
	return w.settled + max(0, now.Sub(w.since))
}
