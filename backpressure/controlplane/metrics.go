package controlplane

import "time"

// Defaults that both ends share.
const (
	// DefaultHeartbeatInterval is how often an idle component reports.
	DefaultHeartbeatInterval = 10 * time.Second
	// DefaultReportInterval is the least time between two reports of a changed
	// load, and DefaultLoadStep the change that is worth one.
	DefaultReportInterval = 100 * time.Millisecond
	DefaultLoadStep       = 0.05
)

// The keys of heartbeat metrics that the decision reads and the agent sends.
const (
	MetricInFlight    = "current_inflight"
	MetricMaxInFlight = "max_inflight"
	MetricFraction    = "throttle_rate"
	MetricUtilization = "inflight_utilization"
	MetricActive      = "backpressure_active"
	MetricThroughput  = "events_per_second"
	MetricLatency     = "processing_latency_ms"
	MetricQueueDepth  = "queue_depth"
	MetricErrors      = "errors_total"
	MetricEvents      = "events_processed_total"

	// MetricEndToEnd is how long it took from a source to this sink, measured on
	// what the sink reads; 0 or absent: it has not measured lately. No decision
	// depends on it.
	MetricEndToEnd = "end_to_end_latency_ms"

	// Followed by a pool's endpoint.
	MetricPoolTotalPrefix   = "pool_total_connections:"
	MetricPoolHealthyPrefix = "pool_healthy_connections:"
	MetricPoolIdlePrefix    = "pool_idle_connections:"
)
