package health

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/topology"
)

// Report says how the pipeline is, in four dimensions, and what to do. Its JSON
// holds no NaN, whatever is or is not known.
type Report struct {
	Time time.Time `json:"timestamp"`
	// Status is the whole in one word, Summary in one sentence.
	Status  Status `json:"status"`
	Summary string `json:"summary"`

	Pipeline    PipelineHealth          `json:"pipeline_health"`
	Performance Performance             `json:"performance"`
	FlowControl FlowControl             `json:"flow_control"`
	Services    map[string]ServiceState `json:"services"`
	Pools       map[string]PoolState    `json:"pools"`
	// Bottleneck is the service that holds others up, as the live page names it;
	// null while nothing is held up.
	Bottleneck *topology.Bottleneck `json:"bottleneck"`
	// Recommendations are empty while all is well, the most urgent first.
	Recommendations []Recommendation `json:"recommendations"`
	// Alerts of the in-process engine that are pending or firing.
	Alerts []alert.Alert `json:"alerts"`
}

// PipelineHealth is the availability of the services.
type PipelineHealth struct {
	Status Status `json:"status"`
	// HealthRatio is the share of services that work, 0..1; 0 without any.
	HealthRatio     float64 `json:"health_ratio"`
	TotalServices   int     `json:"total_services"`
	HealthyServices int     `json:"healthy_services"`
}

// Performance is what the pipeline achieves.
type Performance struct {
	Status Status `json:"status"`
	// Throughput is in events per second, Latency from end to end.
	Throughput      float64 `json:"throughput"`
	LatencySeconds  float64 `json:"latency_seconds"`
	LatencyMeasured bool    `json:"latency_measured"`
	// ErrorRatio is that of the worst service.
	ErrorRatio float64 `json:"error_rate"`
	// RejectedRatio is that of the service that rejects the largest share.
	RejectedRatio float64 `json:"rejected_rate"`
}

// FlowControl is the decision in force.
type FlowControl struct {
	Status             Status  `json:"status"`
	BackpressureActive bool    `json:"backpressure_active"`
	ActiveSeconds      float64 `json:"active_seconds"`
	ThrottleRate       float64 `json:"throttle_rate"`
	Load               float64 `json:"load"`
	WorstLoad          float64 `json:"worst_load"`
	WorstService       string  `json:"worst_service,omitempty"`
	AggregateLoad      float64 `json:"aggregate_load"`
	ActivateAt         float64 `json:"activate_at"`
	RecoverAt          float64 `json:"recover_at"`
	Activations        uint64  `json:"activations"`
}

// ServiceState is one service in a report.
type ServiceState struct {
	Type           string  `json:"type"`
	Health         Status  `json:"health"`
	Version        string  `json:"version,omitempty"`
	Load           float64 `json:"load"`
	InFlight       int64   `json:"in_flight"`
	Limit          int64   `json:"limit"`
	QueueDepth     int64   `json:"queue_depth"`
	Throughput     float64 `json:"throughput"`
	LatencySeconds float64 `json:"latency_seconds"`
	ErrorRatio     float64 `json:"error_rate"`
	// RejectedRatio is the share of what was asked of it that it rejected, 0..1.
	RejectedRatio float64 `json:"rejected_rate"`
	// ThrottleRate is nil where it is not known.
	ThrottleRate *float64 `json:"throttle_rate,omitempty"`
	// HeartbeatSeconds is the time since the last heartbeat, nil where none is expected.
	HeartbeatSeconds *float64 `json:"heartbeat_age_seconds,omitempty"`
}

// PoolState is one connection pool in a report.
type PoolState struct {
	Health  Status `json:"health"`
	Total   int64  `json:"total"`
	Healthy int64  `json:"healthy"`
	Idle    int64  `json:"idle"`
	Limit   int64  `json:"limit"`
	Waiters int64  `json:"waiters"`
}

// Report returns the health report of the state now: of the monitor's snapshot, at
// most [monitor.Config.Freshness] old, and of the alerts at the monitor's last
// interval. It never fails and calls no remote service. The caller owns it.
func (h *Health) Report() Report { return h.report(h.monitor.Snapshot()) }

func (h *Health) report(s *monitor.Snapshot) Report {
	return report(s, h.cfg.Thresholds, h.scaling.Alerts(), h.alerts.Alerts())
}

// urgent says that an alert fires and that nothing holds it back: a report that
// calls its pipeline healthy would contradict it.
func urgent(a *alert.Alert) bool {
	return a.State == alert.Firing && a.Severity != alert.Info && !a.Silenced
}

// report needs nothing but what it is given. The whole is as bad as the worst of
// availability, performance and flow control. A pool that does not work, an alert
// that fires or a recommendation makes it degraded at most: they say what to look
// at, and the dimensions whether it hurts.
func report(s *monitor.Snapshot, t Thresholds, scaling, alerts []alert.Alert) Report {
	r := Report{
		Time: s.Time, Services: make(map[string]ServiceState, len(s.Services)),
		Pools:      make(map[string]PoolState, len(s.Pools)),
		Bottleneck: s.Bottleneck, Recommendations: []Recommendation{}, Alerts: []alert.Alert{},
	}
	r.pipeline(s, t)
	r.flowControl(s)
	r.performance(s, t)
	for i := range s.Pools {
		p := &s.Pools[i]
		state := PoolState{
			Health: Healthy, Total: p.Total, Healthy: p.Healthy, Idle: p.Idle, Limit: p.Limit,
			Waiters: p.Waiters,
		}
		switch {
		case p.Wanted == 0:
			state.Health = Unknown
		case below(p, t.PoolHealth):
			state.Health = Unhealthy
		case p.Healthy < p.Wanted || p.Waiters > 0:
			state.Health = Degraded
		}
		r.Pools[p.Endpoint] = state
	}
	r.recommend(s, t, scaling)
	r.Status = max(r.Pipeline.Status, r.Performance.Status, r.FlowControl.Status)
	for _, p := range r.Pools {
		if p.Health >= Degraded {
			r.Status = max(r.Status, Degraded)
		}
	}
	if r.Pipeline.Status == Unknown && r.Status < Degraded {
		r.Status = Unknown
	}
	for i := range r.Recommendations {
		if r.Recommendations[i].Severity != alert.Info {
			r.Status = max(r.Status, Degraded)
		}
	}
	for i := range alerts {
		if a := &alerts[i]; a.State == alert.Pending || a.State == alert.Firing {
			r.Alerts = append(r.Alerts, *a)
			if urgent(a) {
				r.Status = max(r.Status, Degraded)
			}
		}
	}
	r.summarize()
	return r
}

// pipeline judges the services. A service is degraded when it says so, or when its
// load, errors or rejections are above their thresholds. The pipeline is degraded
// while at least half of its services work, and otherwise unhealthy.
func (r *Report) pipeline(s *monitor.Snapshot, t Thresholds) {
	for i := range s.Services {
		v := &s.Services[i]
		state := ServiceState{
			Type: strings.ToLower(string(v.Kind)), Health: statusOf(v), Version: v.Version, Load: v.Load,
			InFlight: v.InFlight, Limit: v.Limit, QueueDepth: v.QueueDepth, Throughput: v.Throughput,
			LatencySeconds: v.Latency.Seconds(),
			ErrorRatio:     v.ErrorRatio, RejectedRatio: v.RejectedRatio,
		}
		if v.HasFraction {
			state.ThrottleRate = new(v.Fraction)
		}
		if v.Heartbeats {
			state.HeartbeatSeconds = new(v.HeartbeatAge.Seconds())
		}
		if state.Health == Healthy {
			if v.Load > t.Load || v.ErrorRatio > t.ErrorRatio || v.RejectedRatio > t.RejectedRatio {
				state.Health = Degraded
			}
		}
		r.Services[v.ID] = state
		r.Pipeline.TotalServices++
		if v.Working() {
			r.Pipeline.HealthyServices++
		}
	}
	p := &r.Pipeline
	if p.TotalServices == 0 {
		return
	}
	p.HealthRatio = float64(p.HealthyServices) / float64(p.TotalServices)
	switch {
	case p.HealthyServices == p.TotalServices:
		p.Status = Healthy
	case p.HealthRatio >= 0.5:
		p.Status = Degraded
	default:
		p.Status = Unhealthy
	}
}

// flowControl copies the decision. Without one, in a process that does not decide,
// the dimension is unknown and its figures are 0.
func (r *Report) flowControl(s *monitor.Snapshot) {
	f := &r.FlowControl
	f.ThrottleRate = 1
	p := s.Pipeline
	if p == nil {
		return
	}
	*f = FlowControl{
		Status: Healthy, BackpressureActive: p.Active, ThrottleRate: p.Fraction, Load: p.Load, WorstLoad: p.WorstLoad,
		WorstService: p.WorstService, AggregateLoad: p.AggregateLoad, ActivateAt: p.ActivateAt, RecoverAt: p.RecoverAt,
		Activations: p.Activations,
	}
	if p.Active {
		f.Status = Degraded
		if !p.Since.IsZero() {
			f.ActiveSeconds = max(0, s.Time.Sub(p.Since).Seconds())
		}
	}
}

// performance judges latency, errors and rejections. Errors above twice their
// threshold are unhealthy. Rejections are degraded at most: a service that rejects
// what it cannot take does its work.
func (r *Report) performance(s *monitor.Snapshot, t Thresholds) {
	f := &r.Performance
	if len(s.Services) == 0 && s.Pipeline == nil {
		return
	}
	f.Status = Healthy
	if s.Pipeline != nil {
		f.Throughput = s.Pipeline.Throughput
		f.LatencySeconds, f.LatencyMeasured = s.Pipeline.Latency.Seconds(), s.Pipeline.LatencyMeasured
		if s.Pipeline.Latency > t.Latency {
			f.Status = Degraded
		}
	}
	for i := range s.Services {
		f.ErrorRatio = max(f.ErrorRatio, s.Services[i].ErrorRatio)
		f.RejectedRatio = max(f.RejectedRatio, s.Services[i].RejectedRatio)
	}
	if f.RejectedRatio > t.RejectedRatio {
		f.Status = max(f.Status, Degraded)
	}
	switch {
	case f.ErrorRatio > 2*t.ErrorRatio:
		f.Status = Unhealthy
	case f.ErrorRatio > t.ErrorRatio:
		f.Status = max(f.Status, Degraded)
	}
}

// summarize says the worst in one sentence: a cause before its victims, what is down
// before what is slow, and "normal parameters" only where nothing else is said in
// the report.
func (r *Report) summarize() {
	worst := slices.IndexFunc(r.Alerts, func(a alert.Alert) bool { return urgent(&a) })
	switch {
	case r.Status == Unknown:
		r.Summary = "No service is known yet."
	case r.Status == Healthy && len(r.Recommendations) == 0:
		r.Summary = "Pipeline is operating within normal parameters."
	case r.Bottleneck != nil:
		r.Summary = r.Bottleneck.Sentence + "."
	case r.Pipeline.HealthyServices < r.Pipeline.TotalServices:
		var down []string
		for _, id := range slices.Sorted(maps.Keys(r.Services)) {
			if r.Services[id].Health == Unhealthy {
				down = append(down, id)
			}
		}
		r.Summary = strings.Join(down, ", ") + " not working."
	case len(r.Recommendations) > 0:
		r.Summary = r.Recommendations[0].Text
	case worst >= 0:
		r.Summary = cmp.Or(r.Alerts[worst].Summary, r.Alerts[worst].Rule+" fires") + "."
	default:
		r.Summary = "Pipeline is " + r.Status.String() + "."
	}
}
