package topology

import (
	"math"
	"strings"
	"time"
)

// FromMetrics reads the metrics map of a flowctl heartbeat: how the node is, and
// one observation for each connection pool it reports (From empty, To = id).
// Unknown keys are ignored, figures that cannot be count as zero.
func FromMetrics(id string, metrics map[string]float64) (Status, []Edge) {
	number := func(name string) float64 {
		v := metrics[name]
		clean(&v)
		return v
	}
	count := func(name string) int64 { return int64(min(number(name), math.MaxInt32)) }
	s := Status{
		InFlight:    count("current_inflight"),
		MaxInFlight: count("max_inflight"),
		Load:        number("inflight_utilization"),
		QueueDepth:  count("queue_depth"),
		Fraction:    number("throttle_rate"),
		Active:      number("backpressure_active") != 0,
		OutRate:     number("events_per_second"),
		Latency:     time.Duration(min(number("processing_latency_ms"), 1e12) * float64(time.Millisecond)),
	}
	const totals, healthies, idles = "pool_total_connections:", "pool_healthy_connections:", "pool_idle_connections:"
	var edges []Edge
	for name := range metrics {
		endpoint, ok := strings.CutPrefix(name, totals)
		if !ok || endpoint == "" {
			continue
		}
		p := &Pool{
			Total:   int(count(name)),
			Healthy: int(count(healthies + endpoint)),
			Idle:    int(count(idles + endpoint)),
		}
		e := Edge{To: id, Endpoint: endpoint, Origin: OriginObserved, State: StateConnected, Pool: p}
		switch {
		case p.Healthy == 0:
			e.State = StateDown
		case p.Healthy < p.Total:
			e.State = StateDegraded
		}
		edges = append(edges, e)
	}
	return s, edges
}
