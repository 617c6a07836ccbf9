package health

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
)

// The codes of recommendations. The set is closed.
const (
	codeBackpressure  = "backpressure_active"
	codeHighLoad      = "service_high_load"
	codeHighErrors    = "service_high_errors"
	codeHighLatency   = "pipeline_high_latency"
	codeServiceDown   = "service_down"
	codePoolUnhealthy = "pool_unhealthy"
	codePoolSaturated = "pool_saturated"
	codeShedding      = "service_shedding"
	// The scaling triggers: a started monitor has seen these for their whole time.
	codeScaleLoad         = "scale_load"
	codeScaleBackpressure = "scale_backpressure"
	codeScaleLatency      = "scale_latency"
	codeScaleErrors       = "scale_errors"
)

// Recommendation is one thing to do, for people and as data.
type Recommendation struct {
	// Code is one of a closed set: backpressure_active, service_high_load,
	// service_high_errors, service_shedding, service_down, pipeline_high_latency,
	// pool_unhealthy, pool_saturated and, seen for their whole time by a started
	// monitor, scale_load, scale_backpressure, scale_latency and scale_errors.
	Code     string         `json:"code"`
	Severity alert.Severity `json:"severity"`
	// Service is what it is about, "" for the pipeline as a whole.
	Service string `json:"service,omitempty"`
	// Endpoint is the pool that it is about.
	Endpoint string `json:"endpoint,omitempty"`
	Text     string `json:"text"`
	// Cause is the service that is the root of it, where one is found.
	Cause    string   `json:"cause,omitempty"`
	Evidence Evidence `json:"evidence"`
}

// Evidence is the number that led to a recommendation.
type Evidence struct {
	Metric    string  `json:"metric"`
	Value     float64 `json:"value"`
	Threshold float64 `json:"threshold"`
	// ForSeconds is how long it had to be so.
	ForSeconds float64 `json:"for_seconds,omitempty"`
}

// scalingRules are the triggers for scaling out, as rules of an engine of their
// own: they need their time, and are advice, not alerts.
func scalingRules() []alert.Rule {
	return []alert.Rule{
		{
			Name: "ScaleLoad", Severity: alert.Warning, For: 5 * time.Minute,
			Condition: alert.Condition{Metric: "flowctl_service_load_ratio", By: []string{"service_id"}, Threshold: 0.80},
		},
		{
			Name: "ScaleBackpressure", Severity: alert.Warning, For: 2 * time.Minute,
			Condition: alert.Condition{Metric: "flowctl_backpressure_active", Compare: alert.Equal, Threshold: 1},
		},
		{
			Name: "ScaleLatency", Severity: alert.Warning,
			Condition: alert.Condition{Metric: "flowctl_pipeline_latency_seconds", Threshold: 10},
		},
		{
			Name: "ScaleErrors", Severity: alert.Critical, For: time.Minute,
			Condition: alert.Condition{Metric: "flowctl_service_error_ratio", By: []string{"service_id"}, Threshold: 0.10},
		},
	}
}

func (r *Report) recommend(s *monitor.Snapshot, t Thresholds, scaling []alert.Alert) {
	root := ""
	if r.Bottleneck != nil {
		root = r.Bottleneck.Node
	}
	add := func(rec Recommendation) { r.Recommendations = append(r.Recommendations, rec) }

	if p := s.Pipeline; p != nil {
		if p.Active {
			text := "Backpressure is active. Consider scaling up downstream services."
			if root != "" {
				text = fmt.Sprintf("Backpressure is active. Consider scaling up downstream services: %s is the bottleneck.", root)
			}
			add(Recommendation{
				Code: codeBackpressure, Severity: alert.Warning, Text: text, Cause: root,
				Evidence: Evidence{Metric: "flowctl_pipeline_load_ratio", Value: p.Load, Threshold: p.ActivateAt},
			})
		}
		if p.Latency > t.Latency {
			add(Recommendation{
				Code: codeHighLatency, Severity: alert.Warning, Cause: root,
				Text: "End-to-end latency is high. Check for bottlenecks in the pipeline.",
				Evidence: Evidence{
					Metric: "flowctl_pipeline_latency_seconds", Value: p.Latency.Seconds(),
					Threshold: t.Latency.Seconds(),
				},
			})
		}
	}
	for i := range s.Services {
		v := &s.Services[i]
		if !v.Working() {
			text := fmt.Sprintf("Service %s is not working. Check that it runs and can reach the control plane.", v.ID)
			add(Recommendation{
				Code: codeServiceDown, Severity: alert.Critical, Service: v.ID, Text: text,
				Evidence: Evidence{Metric: "flowctl_service_health", Value: 0, Threshold: 1},
			})
		}
		if v.Load > t.Load && s.HeldUpBy(v.ID) == "" {
			add(Recommendation{
				Code: codeHighLoad, Severity: alert.Warning, Service: v.ID, Cause: v.ID,
				Text:     fmt.Sprintf("Service %s is at %.1f%% capacity, consider scaling.", v.ID, v.Load*100),
				Evidence: Evidence{Metric: "flowctl_service_load_ratio", Value: v.Load, Threshold: t.Load},
			})
		}
		if v.RejectedRatio > t.RejectedRatio {
			add(Recommendation{
				Code: codeShedding, Severity: alert.Warning, Service: v.ID, Cause: cmp.Or(s.HeldUpBy(v.ID), v.ID),
				Text: fmt.Sprintf("Service %s rejects %.1f%% of what it is asked for. Raise its limits or scale it out.",
					v.ID, v.RejectedRatio*100),
				Evidence: Evidence{Metric: "flowctl_service_rejected_ratio", Value: v.RejectedRatio, Threshold: t.RejectedRatio},
			})
		}
		if v.ErrorRatio > t.ErrorRatio {
			add(Recommendation{
				Code: codeHighErrors, Severity: alert.Critical, Service: v.ID, Cause: v.ID,
				Text:     fmt.Sprintf("Service %s has elevated error rate (%.1f%%). Investigate logs.", v.ID, v.ErrorRatio*100),
				Evidence: Evidence{Metric: "flowctl_service_error_ratio", Value: v.ErrorRatio, Threshold: t.ErrorRatio},
			})
		}
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		switch {
		case below(p, t.PoolHealth):
			add(Recommendation{
				Code: codePoolUnhealthy, Severity: alert.Warning, Endpoint: p.Endpoint,
				Text: fmt.Sprintf("Connection pool %s has %d of %d connections working. Check the network and the server.",
					p.Endpoint, p.Healthy, p.Wanted),
				Evidence: Evidence{
					Metric: "flowctl_pool_healthy_connections", Value: float64(p.Healthy),
					Threshold: t.PoolHealth * float64(p.Wanted),
				},
			})
		case p.Waiters > 0 && p.Limit > 0 && p.Total >= p.Limit:
			add(Recommendation{
				Code: codePoolSaturated, Severity: alert.Warning, Endpoint: p.Endpoint,
				Text: fmt.Sprintf("Connection pool %s has no room, %d calls wait. Consider raising its limit.",
					p.Endpoint, p.Waiters),
				Evidence: Evidence{Metric: "flowctl_pool_waiters", Value: float64(p.Waiters)},
			})
		}
	}
	for i := range scaling {
		if a := &scaling[i]; a.State == alert.Firing && s.HeldUpBy(a.Labels["service_id"]) == "" {
			add(scale(a, root))
		}
	}
	order := map[alert.Severity]int{alert.Critical: 0, alert.Warning: 1, alert.Info: 2}
	slices.SortStableFunc(r.Recommendations, func(a, b Recommendation) int {
		return cmp.Compare(order[a.Severity], order[b.Severity])
	})
}

// scale words a trigger for scaling out.
func scale(a *alert.Alert, root string) Recommendation {
	service := a.Labels["service_id"]
	var rule alert.Rule
	for _, r := range scalingRules() {
		if r.Name == a.Rule {
			rule = r
		}
	}
	rec := Recommendation{
		Severity: a.Severity, Service: service, Cause: cmp.Or(service, root),
		Evidence: Evidence{
			Metric: rule.Condition.Metric, Value: a.Value, Threshold: rule.Condition.Threshold,
			ForSeconds: rule.For.Seconds(),
		},
	}
	target := cmp.Or(root, "the most loaded service")
	switch a.Rule {
	case "ScaleLoad":
		rec.Code = codeScaleLoad
		rec.Text = fmt.Sprintf("Service %s has been above 80%% of its limit for 5 minutes: scale it out.", service)
	case "ScaleBackpressure":
		rec.Code = codeScaleBackpressure
		rec.Text = fmt.Sprintf("Backpressure has been active for 2 minutes: scale out %s.", target)
	case "ScaleLatency":
		rec.Code = codeScaleLatency
		rec.Text = fmt.Sprintf("End-to-end latency is above 10 seconds: scale out %s.", target)
	default:
		rec.Code = codeScaleErrors
		rec.Text = fmt.Sprintf("More than 10%% of service %s's work has failed for 1 minute: "+
			"find out why before scaling out.", service)
	}
	rec.Text = strings.TrimSpace(rec.Text)
	return rec
}
