package alert

import (
	"time"

	"github.com/withobsrvr/sluice/monitor"
)

// DefaultRules returns the alert rules that ship: three under the names of the
// system that this library implements, and those beside them that say something
// else. A rule that escalates another inhibits it.
//
// Their texts say what is so now and not for how long: a pending alert has the
// same texts as one that fires.
func DefaultRules() []Rule {
	return []Rule{
		{
			Name: "ServiceHighLoad", Severity: Warning, For: 2 * time.Minute,
			Condition: Condition{Metric: "flowctl_service_load_ratio", By: []string{"service_id"}, Threshold: 0.85},
			Summary:   "Service {{ $labels.service_id }} at {{ $value | humanizePercentage }} capacity",
			Description: "More than 85% of the service's limit is in flight. " +
				"What feeds it will be held back.",
		},
		{
			Name: "FlowctlServiceSaturated", Severity: Critical, For: 5 * time.Minute,
			Condition: Condition{Metric: "flowctl_service_load_ratio", By: []string{"service_id"}, Threshold: 0.95},
			Summary:   "Service {{ $labels.service_id }} is full",
			Description: "{{ $value | humanizePercentage }} of the service's limit is in flight: " +
				"it does not keep up at the fraction that is let through.",
			Inhibits: []string{"ServiceHighLoad"}, InhibitEqual: []string{"service_id"},
		},
		{
			Name: "BackpressureActive", Severity: Warning, For: 30 * time.Second,
			Condition:   Condition{Metric: "flowctl_backpressure_active", Compare: Equal, Threshold: 1},
			Summary:     "Pipeline backpressure activated",
			Description: "A service has come to its limit, and the sources are let through in part only.",
			Inhibits:    []string{"FlowctlLatencyHigh", "FlowctlEdgeBlocked"},
		},
		{
			Name: "FlowctlBackpressureStuck", Severity: Critical, For: 5 * time.Minute,
			Condition: Condition{
				Func: Rate, Metric: "flowctl_backpressure_time_seconds_total", Window: 15 * time.Minute,
				Threshold: 0.5,
			},
			Summary: "The pipeline is under backpressure most of the time",
			Description: "Backpressure was on for {{ $value | humanizePercentage }} of the last 15 minutes: " +
				"the pipeline is too small for what is offered.",
			Inhibits: []string{"BackpressureActive", "FlowctlLatencyHigh", "FlowctlEdgeBlocked"},
		},
		{
			Name: "FlowctlBackpressureFlapping", Severity: Warning,
			Condition: Condition{
				Func: Increase, Metric: "flowctl_backpressure_transitions_total", Match: map[string]string{"state": "active"},
				Window: 15 * time.Minute, Threshold: 6,
			},
			Summary: "Backpressure comes and goes",
			Description: "Backpressure began {{ $value | humanize }} times in 15 minutes: " +
				"the thresholds are too close together, or the load comes in bursts.",
		},
		{
			Name: "ConnectionPoolUnhealthy", Severity: Warning, For: time.Minute,
			Condition: Condition{
				Func: Ratio, Metric: "flowctl_pool_healthy_connections", Over: "flowctl_pool_wanted_connections",
				By: []string{"endpoint"}, Aggregate: Min, Compare: Below, Threshold: 0.5,
			},
			Summary:     "Connection pool {{ $labels.endpoint }} unhealthy",
			Description: "Only {{ $value | humanizePercentage }} of the pool's connections work.",
			Inhibits:    []string{"FlowctlPoolSaturated"}, InhibitEqual: []string{"endpoint"},
			NoData: NoDataKeep,
		},
		{
			Name: "FlowctlPoolSaturated", Severity: Warning, For: 2 * time.Minute,
			Condition:   Condition{Metric: "flowctl_pool_waiters", By: []string{"endpoint"}, Threshold: 0},
			Summary:     "Connection pool {{ $labels.endpoint }} has no room",
			Description: "{{ $value | humanize }} RPCs wait for a connection.",
		},
		{
			Name: "FlowctlReconnectStorm", Severity: Warning,
			Condition: Condition{
				Func: Increase, Metric: "flowctl_reconnection_events_total", Window: 5 * time.Minute,
				By: []string{"service_id"}, Aggregate: Sum, Threshold: 10,
			},
			Summary:     "Service {{ $labels.service_id }} reconnects again and again",
			Description: "{{ $value | humanize }} reconnections in 5 minutes.",
		},
		{
			Name: "FlowctlHighErrorRatio", Severity: Critical, For: time.Minute,
			Condition:   Condition{Metric: "flowctl_service_error_ratio", By: []string{"service_id"}, Threshold: 0.05},
			Summary:     "Service {{ $labels.service_id }} fails",
			Description: "{{ $value | humanizePercentage }} of its work fails.",
		},
		{
			Name: "FlowctlLatencyHigh", Severity: Warning, For: 2 * time.Minute,
			Condition:   Condition{Metric: "flowctl_pipeline_latency_seconds", Threshold: 10},
			Summary:     "End-to-end latency is high",
			Description: "An event takes {{ $value | humanizeDuration }} from source to sink.",
		},
		{
			Name: "FlowctlHeartbeatStale", Severity: Critical, For: 15 * time.Second,
			Condition: Condition{
				Metric: "flowctl_service_heartbeat_age_seconds", By: []string{"service_id"},
				Threshold: monitor.StaleHeartbeat.Seconds(),
			},
			Summary:     "Service {{ $labels.service_id }} is silent",
			Description: "Its last heartbeat came {{ $value | humanizeDuration }} ago.",
			Inhibits:    []string{"FlowctlServiceUnhealthy"}, InhibitEqual: []string{"service_id"},
			NoData: NoDataKeep,
		},
		{
			Name: "FlowctlServiceUnhealthy", Severity: Critical, For: 30 * time.Second,
			Condition: Condition{
				Metric: "flowctl_service_health", By: []string{"service_id"}, Aggregate: Min, Compare: Equal,
				Threshold: 0,
			},
			Summary:     "Service {{ $labels.service_id }} does not work",
			Description: "The service reports that it is unhealthy, or the control plane counts it as down.",
			NoData:      NoDataKeep,
		},
		{
			Name: "FlowctlShedding", Severity: Warning, For: 2 * time.Minute,
			Condition: Condition{Metric: "flowctl_service_rejected_ratio", By: []string{"service_id"}, Threshold: 0.05},
			Summary:   "Service {{ $labels.service_id }} rejects work",
			Description: "The service has rejected {{ $value | humanizePercentage }} of what it was asked for: " +
				"more is offered than it can take.",
		},
		{
			Name: "FlowctlEdgeBlocked", Severity: Info, For: 2 * time.Minute,
			Condition: Condition{
				Func: Rate, Metric: "flowctl_edge_blocked_seconds_total", Window: 5 * time.Minute,
				By: []string{"source", "target"}, Threshold: 0.9,
			},
			Summary: "{{ $labels.target }} holds {{ $labels.source }} back",
			Description: "{{ $labels.target }} did not read from {{ $labels.source }} " +
				"for {{ $value | humanizePercentage }} of the last 5 minutes. " +
				"The cause is {{ $labels.target }} or beyond it.",
		},
		{
			Name: "FlowctlTelemetryMissing", Severity: Critical, For: 2 * time.Minute,
			Condition:   Condition{Func: Absent, Metric: "flowctl_backpressure_active"},
			ScrapeOnly:  true,
			Summary:     "Nobody reports the pipeline's state",
			Description: "No process exports flowctl_backpressure_active: the control plane is down or is not scraped.",
		},
		{
			Name: "FlowctlSeriesDropped", Severity: Info,
			Condition: Condition{
				Func: Increase, Metric: "flowctl_telemetry_series_dropped_total", Window: 15 * time.Minute,
				Threshold: 0,
			},
			Summary:     "Some services have no series of their own",
			Description: "There are more services, pools or edges than the monitor's bounds allow.",
		},
	}
}
