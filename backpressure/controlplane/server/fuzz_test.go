package server

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// FuzzBeat throws any bytes at the three kinds of beats. Nothing may panic, and
// whatever is rejected leaves the sums alone.
func FuzzBeat(f *testing.F) {
	good, _ := proto.Marshal(
		&flowctlpb.ServiceHeartbeat{ServiceId: "sink", Metrics: map[string]float64{controlplane.MetricInFlight: 5}},
	)
	text, _ := proto.Marshal(
		&flowctlv1pb.HeartbeatRequest{
			ServiceId: "sink",
			Status:    77,
			Metrics:   map[string]string{controlplane.MetricInFlight: "1e309", "x": "NaN"},
		},
	)
	own, _ := proto.Marshal(
		&sluicepb.Beat{
			Load:  &sluicepb.Load{InFlight: math.MinInt64, LatencyNanos: math.MaxInt64, Fraction: math.NaN()},
			Edges: []*sluicepb.Edge{nil, {Upstream: "\xff"}},
		},
	)
	for _, seed := range [][]byte{good, text, own, {}} {
		f.Add(seed)
	}
	s, err := New(Config{Decision: backpressure.Config{Tick: -1, Learn: -1}})
	require.NoError(f, err)
	f.Cleanup(s.Close)
	require.NoError(f, s.register(f.Context(), controlplane.Component{ID: "sink", MaxInFlight: 100}, 0))
	stream := newSession(s, nil, "sink", time.Second)
	_, err = s.registry.join(stream, 0, time.Second, nil)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, data []byte) {
		before := s.controller.Snapshot().InFlight
		check := func(err error) {
			now := s.controller.Snapshot()
			if err != nil && now.InFlight != before {
				t.Fatalf("rejected with %v, and in flight went from %d to %d", err, before, now.InFlight)
			}
			before = now.InFlight
			if math.IsNaN(now.Load) || now.Fraction < 0.05 || now.Fraction > 1 {
				t.Fatalf("load %v, fraction %v", now.Load, now.Fraction)
			}
		}
		var a flowctlpb.ServiceHeartbeat
		if proto.Unmarshal(data, &a) == nil {
			_, err := flowctlService{s}.Heartbeat(t.Context(), &a)
			check(err)
		}
		var b flowctlv1pb.HeartbeatRequest
		if proto.Unmarshal(data, &b) == nil {
			_, err := flowctlV1Service{s}.Heartbeat(t.Context(), &b)
			check(err)
		}
		var c sluicepb.Beat
		if proto.Unmarshal(data, &c) == nil {
			check(stream.takes(&c))
		}
		if s.registry.size > 1<<20 {
			t.Fatalf("%d bytes are kept of one component", s.registry.size)
		}
	})
}
