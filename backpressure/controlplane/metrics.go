package controlplane

import (
	"math"
	"strconv"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
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

// reportOf reads a report out of heartbeat metrics, for components that know
// no stream. A metric that is absent is 0, as in a report; a maximum that is
// absent is the one that the component registered with.
func reportOf(id string, maxInFlight int64, metric func(name string) float64) backpressure.Report {
	r := backpressure.Report{
		ServiceID:   id,
		InFlight:    whole(metric(MetricInFlight)),
		MaxInFlight: whole(metric(MetricMaxInFlight)),
		Load:        metric(MetricUtilization),
		QueueDepth:  whole(metric(MetricQueueDepth)),
		Throughput:  metric(MetricThroughput),
		Latency:     time.Duration(whole(metric(MetricLatency) * float64(time.Millisecond))),
		Fraction:    metric(MetricFraction),
	}
	if r.MaxInFlight == 0 {
		r.MaxInFlight = maxInFlight
	}
	return r
}

// in returns how a heartbeat map is read.
func in(metrics map[string]float64) func(name string) float64 {
	return func(name string) float64 { return metrics[name] }
}

// metricsOf is the map that a heartbeat carries for a report.
func metricsOf(r backpressure.Report, fraction float64, active bool) map[string]float64 {
	load := r.Load
	if r.MaxInFlight > 0 {
		load = max(load, float64(r.InFlight)/float64(r.MaxInFlight))
	}
	return map[string]float64{
		MetricInFlight:    float64(r.InFlight),
		MetricMaxInFlight: float64(r.MaxInFlight),
		MetricFraction:    fraction,
		MetricUtilization: load,
		MetricActive:      oneIf(active),
		MetricThroughput:  r.Throughput,
		MetricLatency:     float64(r.Latency) / float64(time.Millisecond),
		MetricQueueDepth:  float64(r.QueueDepth),
	}
}

// whole saturates instead of wrapping, and keeps NaN recognizable as bad: the
// controller refuses a negative number.
func whole(v float64) int64 {
	switch {
	case math.IsNaN(v):
		return -1
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	default:
		return int64(math.Round(v))
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// formatMetric writes a number as the string maps carry it: decimal, no unit.
func formatMetric(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// parseMetrics reads a string map. Other teams' components put free text there
// as well; only numbers are metrics.
func parseMetrics(in map[string]string) map[string]float64 {
	metrics := make(map[string]float64, len(in))
	for key, text := range in {
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			metrics[key] = v
		}
	}
	return metrics
}
