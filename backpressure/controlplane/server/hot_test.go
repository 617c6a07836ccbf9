package server

import (
	"fmt"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// crowd is a server of n components, each with a session that sends nothing.
func crowd(t testing.TB, n int) (s *Server, sessions []*session) { return pipelinesOf(t, 1, n) }

// pipelinesOf is a crowd in so many pipelines of n components each.
func pipelinesOf(t testing.TB, pipelines, n int) (s *Server, sessions []*session) {
	all := pipelines * n
	s, err := New(Config{
		Decision: backpressure.Config{Learn: -1, Tick: -1, MaxInFlight: -1, MaxServices: all},
		Limits:   Limits{ComponentsPerPeer: all, Components: all, Bytes: 1 << 30},
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for i := range all {
		c := controlplane.Component{ID: fmt.Sprintf("component-%05d", i), MaxInFlight: 100}
		if pipelines > 1 {
			c.PipelineID = fmt.Sprint("pipeline-", i%pipelines)
		}
		own := newSession(s, nil, c.ID, controlplane.DefaultHeartbeatInterval)
		require.NoError(t, s.register(t.Context(), c, 0))
		_, err = s.registry.join(own, 0, 0, nil)
		require.NoError(t, err)
		sessions = append(sessions, own)
	}
	return s, sessions
}

// takes is what a beat of the stream costs once gRPC has decoded it.
func (o *session) takes(in *sluicepb.Beat) error {
	b, err := o.decode(&sluicepb.Up{Message: &sluicepb.Up_Beat{Beat: in}})
	if err != nil {
		return err
	}
	return o.server.take(&b)
}

// BenchmarkHotBeat is what a report costs the control plane once gRPC has
// delivered it.
func BenchmarkHotBeat(b *testing.B) {
	for _, size := range []struct{ pipelines, each int }{{1, 10}, {1, 10_000}, {1, 100_000}, {1000, 100}} {
		b.Run(fmt.Sprintf("%dx%d", size.pipelines, size.each), func(b *testing.B) {
			_, sessions := pipelinesOf(b, size.pipelines, size.each)
			frequent := &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 10, MaxInFlight: 100, Throughput: 1000}}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_ = sessions[i*7919%len(sessions)].takes(frequent)
				i++
			}
		})
	}
}

func numbered(n int) map[string]float64 {
	metrics := map[string]float64{}
	for i := range n {
		metrics[fmt.Sprint("m", i)] = float64(i)
	}
	return metrics
}

// A beat that is rejected, for its report or for one of its metrics, leaves the
// metrics as they were, whichever way it came.
func TestARejectedBeatLeavesTheMetrics(t *testing.T) {
	s, sessions := crowd(t, 1)
	own := sessions[0]
	extra := func() map[string]float64 {
		return maps.Clone(s.registry.copies()[0].Metrics)
	}
	good := &sluicepb.Load{InFlight: 1, MaxInFlight: 100}
	require.NoError(t, own.takes(&sluicepb.Beat{Load: good, Metrics: map[string]float64{"a": 1, "b": 2}}))
	want := map[string]float64{"a": 1, "b": 2}
	require.Equal(t, want, extra())
	given := s.Components()[0].Metrics
	for _, bad := range []*sluicepb.Beat{
		{Load: &sluicepb.Load{InFlight: -1}, Metrics: map[string]float64{"a": 3, "c": 4}},
		{Load: good, Metrics: map[string]float64{"a": 3, "b": math.NaN()}},
		{Load: good, Metrics: map[string]float64{"a": 3, "\x00": 1}},
		{Load: good, Metrics: numbered(300)},
		{Load: good, Metrics: map[string]float64{"a": 3}, Edges: []*sluicepb.Edge{{Upstream: "u", Blocked: 2}}},
	} {
		require.Error(t, own.takes(bad))
		require.Equal(t, want, extra())
	}
	for _, bad := range []map[string]float64{
		{controlplane.MetricInFlight: -1, "a": 3},
		{"a": 3, "b": math.NaN()},
		numbered(300),
	} {
		require.Error(t, s.heartbeat(t.Context(), &beat{id: own.id, metrics: bad}))
		require.Equal(t, want, extra())
	}
	require.NoError(t, own.takes(&sluicepb.Beat{Load: good, Metrics: map[string]float64{"b": 5}}))
	require.Equal(t, 2.0, given["b"], "what was given out stays")
	require.Equal(t, map[string]float64{"a": 1, "b": 5}, extra())
}

// Metrics that would fill the registry are rejected; a beat without new ones is
// taken however full it is.
func TestAFullRegistryTakesBeatsThatAddNothing(t *testing.T) {
	s, sessions := crowd(t, 1)
	own := sessions[0]
	load := &sluicepb.Load{InFlight: 1, MaxInFlight: 100}
	require.NoError(t, own.takes(&sluicepb.Beat{Load: load, Metrics: numbered(2)}))
	s.registry.limits.Bytes = s.registry.size
	require.NoError(t, own.takes(&sluicepb.Beat{Load: load, Metrics: numbered(2)}))
	require.Equal(t, codes.ResourceExhausted, status.Code(own.takes(&sluicepb.Beat{Load: load, Metrics: numbered(3)})))
	s.registry.limits.Bytes = s.registry.size - 1 // lowered below what is kept
	require.NoError(t, own.takes(&sluicepb.Beat{Load: load}))
	s.registry.limits.Bytes = s.registry.size + len("m2") + entryOverhead
	require.NoError(t, own.takes(&sluicepb.Beat{Load: load, Metrics: numbered(3)}), "to the last byte")
}

// A session that was replaced, or whose component was removed, has no say.
func TestABeatOfAReplacedSessionCountsNoMore(t *testing.T) {
	s, sessions := crowd(t, 2)
	own := sessions[0]
	frequent := &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 10, MaxInFlight: 100}}
	require.NoError(t, own.takes(frequent))
	require.NoError(t, s.register(t.Context(), controlplane.Component{ID: own.id, MaxInFlight: 7}, 0))
	require.Equal(
		t, codes.Aborted, status.Code(own.takes(&sluicepb.Beat{Load: &sluicepb.Load{InFlight: 3, MaxInFlight: 7}})),
	)
	found, ok := s.registry.get(own.id)
	require.True(t, ok)
	require.EqualValues(t, 10, found.Report.InFlight, "until the new one beats")
	require.NotNil(t, own.goodbye)

	require.NoError(t, s.unregister(t.Context(), own.id))
	require.Equal(t, codes.NotFound, status.Code(own.takes(frequent)))
	require.Len(t, s.controller.Snapshot().Services, 1)
}

// An open stream keeps its component registered however long it is silent: it
// leaves the decision, and the registry only when the stream has ended.
func TestAnOpenStreamKeepsItsComponent(t *testing.T) {
	s, sessions := crowd(t, 1)
	own := sessions[0]
	silent := time.Now().Add(3 * minStale)
	s.sweep(silent)
	require.Len(t, s.Components(), 1)
	require.Empty(t, s.controller.Snapshot().Services)
	require.NoError(t, own.takes(&sluicepb.Beat{Load: &sluicepb.Load{InFlight: 1, MaxInFlight: 100}}))
	require.Len(t, s.controller.Snapshot().Services, 1, "and counts when it beats again")
	s.registry.leave(own)
	s.sweep(silent)
	require.Empty(t, s.Components())
}

// The end of a stream that another has replaced says nothing of the component.
func TestAReplacedStreamDoesNotTakeItsSuccessorAlong(t *testing.T) {
	s, sessions := crowd(t, 1)
	second := newSession(s, nil, sessions[0].id, time.Second)
	_, err := s.registry.join(second, 0, 0, nil)
	require.NoError(t, err)
	s.registry.leave(sessions[0])
	require.Equal(t, []*session{second}, s.registry.sessions())
	require.NoError(t, second.takes(&sluicepb.Beat{Load: &sluicepb.Load{InFlight: 1, MaxInFlight: 100}}))
}
