package controlplane

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// Edge is a connection that a component has seen itself use to an upstream.
type Edge struct {
	// Upstream is the id of the component at the other end, "" if only its
	// endpoint is known.
	Upstream string
	Endpoint string
	// Connected says whether it is up now, LastConnected when it last was.
	Connected     bool
	LastConnected time.Time
	Reconnects    int
	// Latency is the measured time of a round trip.
	Latency time.Duration
	// Throughput is in events per second, ByteRate in bytes per second.
	Throughput, ByteRate float64
	// Blocked is the share of the time that the sender had to wait, 0..1.
	Blocked float64
}

func (e *Edge) check(l Limits) *Error {
	if e.Upstream != "" {
		if err := backpressure.CheckID(e.Upstream); err != nil {
			return &Error{Reason: Invalid, What: "edge", cause: err}
		}
	}
	if err := l.checkText("edge endpoint", e.Endpoint); err != nil {
		return err
	}
	for _, number := range [...]struct {
		name string
		v    float64
		most float64
	}{
		{"throughput", e.Throughput, math.MaxFloat64},
		{"byte rate", e.ByteRate, math.MaxFloat64},
		{"blocked", e.Blocked, 1},
		{"latency", float64(e.Latency), math.MaxFloat64},
	} {
		if !(number.v >= 0 && number.v <= number.most) {
			return refuse(Invalid, "edge %s is %v, want 0 to %v", number.name, number.v, number.most)
		}
	}
	return nil
}

// moved says whether the figures differ by what a reader would notice.
func (e *Edge) moved(from *Edge) bool {
	return math.Abs(e.Blocked-from.Blocked) >= 0.1 ||
		math.Abs(e.Throughput-from.Throughput) > 0.2*max(e.Throughput, from.Throughput)
}

func edgesFrom(in []*sluicepb.Edge) []Edge {
	edges := make([]Edge, len(in))
	for i, e := range in {
		edges[i] = Edge{
			Upstream:      e.GetUpstream(),
			Endpoint:      e.GetEndpoint(),
			Connected:     e.GetConnected(),
			LastConnected: timeOf(e.GetLastConnected()),
			Reconnects:    int(e.GetReconnects()),
			Latency:       time.Duration(e.GetLatencyNanos()),
			Throughput:    e.GetThroughput(),
			ByteRate:      e.GetBytesPerSecond(),
			Blocked:       e.GetBlocked(),
		}
	}
	return edges
}

func edgesTo(edges []Edge) []*sluicepb.Edge {
	out := make([]*sluicepb.Edge, len(edges))
	for i, e := range edges {
		out[i] = &sluicepb.Edge{
			Upstream:       e.Upstream,
			Endpoint:       e.Endpoint,
			Connected:      e.Connected,
			Reconnects:     uint32(max(e.Reconnects, 0)),
			LatencyNanos:   int64(e.Latency),
			Throughput:     e.Throughput,
			BytesPerSecond: e.ByteRate,
			Blocked:        e.Blocked,
		}
		if !e.LastConnected.IsZero() {
			out[i].LastConnected = timestamppb.New(e.LastConnected)
		}
	}
	return out
}
