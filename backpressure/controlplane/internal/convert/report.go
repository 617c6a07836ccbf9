package convert

import (
	"math"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// ReportFromMetrics reads a report out of heartbeat metrics, for components
// that use no stream. A metric that is absent is 0, as in a report; a maximum
// that is absent is the one that the component registered with.
func ReportFromMetrics(id string, maxInFlight int64, metrics map[string]float64) backpressure.Report {
	r := backpressure.Report{
		ServiceID:   id,
		InFlight:    whole(metrics[controlplane.MetricInFlight]),
		MaxInFlight: whole(metrics[controlplane.MetricMaxInFlight]),
		Load:        metrics[controlplane.MetricUtilization],
		QueueDepth:  whole(metrics[controlplane.MetricQueueDepth]),
		Throughput:  metrics[controlplane.MetricThroughput],
		Latency:     time.Duration(whole(metrics[controlplane.MetricLatency] * float64(time.Millisecond))),
		Fraction:    metrics[controlplane.MetricFraction],
	}
	if r.MaxInFlight == 0 {
		r.MaxInFlight = maxInFlight
	}
	return r
}

// ErrorRate is the share of events that failed, 0..1, between two heartbeats with
// the metrics before and after. ok is false when no event was handled meanwhile.
// Counters that fell belong to a process that has restarted.
func ErrorRate(before, after map[string]float64) (rate float64, ok bool) {
	errors := after[controlplane.MetricErrors] - before[controlplane.MetricErrors]
	events := after[controlplane.MetricEvents] - before[controlplane.MetricEvents]
	if errors < 0 || events < 0 {
		errors, events = after[controlplane.MetricErrors], after[controlplane.MetricEvents]
	}
	// A component that does not count a failed event as processed has at least as
	// many events as errors.
	if events = max(events, errors); !(events > 0) {
		return 0, false
	}
	return max(0, errors/events), true
}

// MetricsFromReport adds what r says to the metrics of a heartbeat, by the keys
// that stock tools know.
func MetricsFromReport(metrics map[string]float64, r *backpressure.Report, active bool) {
	load := r.Load
	if r.MaxInFlight > 0 {
		load = max(load, float64(r.InFlight)/float64(r.MaxInFlight))
	}
	metrics[controlplane.MetricInFlight] = float64(r.InFlight)
	metrics[controlplane.MetricMaxInFlight] = float64(r.MaxInFlight)
	metrics[controlplane.MetricFraction] = r.Fraction
	metrics[controlplane.MetricUtilization] = load
	metrics[controlplane.MetricThroughput] = r.Throughput
	metrics[controlplane.MetricLatency] = float64(r.Latency) / float64(time.Millisecond)
	metrics[controlplane.MetricQueueDepth] = float64(r.QueueDepth)
	metrics[controlplane.MetricActive] = 0
	if active {
		metrics[controlplane.MetricActive] = 1
	}
}

// LoadFromReport is r as the stream carries it.
func LoadFromReport(r *backpressure.Report) *sluicepb.Load {
	return &sluicepb.Load{
		InFlight:     r.InFlight,
		MaxInFlight:  r.MaxInFlight,
		Load:         r.Load,
		QueueDepth:   r.QueueDepth,
		Throughput:   r.Throughput,
		LatencyNanos: int64(r.Latency),
		ErrorRate:    r.ErrorRate,
		Fraction:     r.Fraction,
	}
}

// ReportFromLoad is a load of the stream as a report.
func ReportFromLoad(id string, load *sluicepb.Load) backpressure.Report {
	return backpressure.Report{
		ServiceID:   id,
		InFlight:    load.GetInFlight(),
		MaxInFlight: load.GetMaxInFlight(),
		Load:        load.GetLoad(),
		QueueDepth:  load.GetQueueDepth(),
		Throughput:  load.GetThroughput(),
		Latency:     time.Duration(load.GetLatencyNanos()),
		ErrorRate:   load.GetErrorRate(),
		Fraction:    load.GetFraction(),
	}
}

// EdgeToWire is e as the stream carries it: whether it is up, and no more of
// its state.
func EdgeToWire(e *topology.Edge) *sluicepb.Edge {
	out := &sluicepb.Edge{
		Upstream:       e.From,
		Endpoint:       e.Endpoint,
		Connected:      e.State.Up(),
		Reconnects:     uint32(min(e.Reconnects, math.MaxUint32)),
		LatencyNanos:   int64(e.Latency),
		Throughput:     e.Throughput,
		BytesPerSecond: e.ByteRate,
		Blocked:        e.Blocked,
	}
	if !e.LastConnected.IsZero() {
		out.LastConnected = timestamppb.New(e.LastConnected)
	}
	return out
}

// EdgeFromWire is an edge that the component id has observed.
func EdgeFromWire(id string, e *sluicepb.Edge) topology.Edge {
	state := topology.StateDown
	if e.GetConnected() {
		state = topology.StateConnected
	}
	return topology.Edge{
		From:          e.GetUpstream(),
		To:            id,
		Endpoint:      e.GetEndpoint(),
		Origin:        topology.OriginObserved,
		State:         state,
		LastConnected: Time(e.GetLastConnected()),
		Reconnects:    uint64(e.GetReconnects()),
		Latency:       time.Duration(e.GetLatencyNanos()),
		Throughput:    e.GetThroughput(),
		ByteRate:      e.GetBytesPerSecond(),
		Blocked:       e.GetBlocked(),
	}
}

// Time is the zero time where t is nil: a timestamp that is absent, and not 1970.
func Time(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// whole saturates instead of wrapping, and keeps NaN recognizable as bad: the
// controller rejects a negative number.
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

// FormatMetric writes a number as the string maps carry it: decimal, no unit.
func FormatMetric(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// FormatMetrics is a map of numbers as a map of text.
func FormatMetrics(metrics map[string]float64) map[string]string {
	text := make(map[string]string, len(metrics))
	for key, v := range metrics {
		text[key] = FormatMetric(v)
	}
	return text
}

// ParseMetrics reads a string map. Other teams' components put free text there
// as well; only numbers are metrics.
func ParseMetrics(in map[string]string) map[string]float64 {
	metrics := make(map[string]float64, len(in))
	for key, text := range in {
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			metrics[key] = v
		}
	}
	return metrics
}
