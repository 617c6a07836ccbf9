package controlplane

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// crowd is a server of n components, and their frequent beats.
func crowd(t testing.TB, n int) (s *Server, streams []*session, frequent []byte) {
	s, err := NewServer(ServerConfig{
		Decision: backpressure.Config{Learn: -1, Tick: -1, MaxInFlight: -1},
		Limits:   Limits{ComponentsPerPeer: n},
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for i := range n {
		own := &session{server: s, id: fmt.Sprintf("component-%05d", i), gone: true} // nobody hears it
		streams = append(streams, own)
		require.NoError(t, s.register(t.Context(), Component{ID: own.id, MaxInFlight: 100}, 0))
		require.Nil(t, s.registry.join(own.id, own, 0, nil))
	}
	return s, streams, marshal(t, &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 10, MaxInFlight: 100, Throughput: 1000}})
}

// BenchmarkHotBeat is what a report costs the control plane once gRPC has
// delivered it.
func BenchmarkHotBeat(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, streams, frequent := crowd(b, n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				own := streams[i*7919%n]
				_ = s.takeBeat(own.id, own, frequent)
				i++
			}
		})
	}
}

func TestTheFrequentBeatAllocatesNothing(t *testing.T) {
	s, streams, frequent := crowd(t, 10)
	heartbeat := marshal(t, &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 11, MaxInFlight: 100}, Metrics: numbered(10)})
	for _, own := range streams {
		require.NoError(t, s.takeBeat(own.id, own, heartbeat))
	}
	for _, message := range [][]byte{frequent, heartbeat} {
		i := 0
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			require.NoError(t, s.takeBeat(streams[i%10].id, streams[i%10], message))
			i++
		}))
	}
}

// A beat that is refused, for its report or for one of its metrics, leaves the
// metrics as they were, whichever way it came.
func TestARefusedBeatLeavesTheMetrics(t *testing.T) {
	s, streams, _ := crowd(t, 1)
	own := streams[0]
	of := func() map[string]float64 { return s.Components()[0].Metrics }
	good := &sluicepb.Load{InFlight: 1, MaxInFlight: 100}
	require.NoError(t, s.takeBeat(own.id, own, marshal(t, &sluicepb.Beat{Load: good, Metrics: map[string]float64{"a": 1, "b": 2}})))
	want := map[string]float64{"a": 1, "b": 2}
	require.Equal(t, want, of())
	for _, bad := range []*sluicepb.Beat{
		{Load: &sluicepb.Load{InFlight: -1}, Metrics: map[string]float64{"a": 3, "c": 4}},
		{Load: good, Metrics: map[string]float64{"a": 3, "b": math.NaN()}},
		{Load: good, Metrics: map[string]float64{"a": 3, "\x00": 1}},
		{Load: good, Metrics: numbered(300)},
	} {
		require.Error(t, s.takeBeat(own.id, own, marshal(t, bad)))
		require.Equal(t, want, of())
		require.Error(t, s.beat(t.Context(), own.id, HealthUnknown, bad.GetMetrics(), func(e *entry) backpressure.Report { return reportFromBeat(e, bad) }))
		require.Equal(t, want, of())
	}
	before := of()
	require.NoError(t, s.takeBeat(own.id, own, marshal(t, &sluicepb.Beat{Load: good, Metrics: map[string]float64{"b": 5}})))
	require.Equal(t, want, before, "what was handed out stays")
	require.Equal(t, map[string]float64{"a": 1, "b": 5}, of())
}

// A beat that is under way while its component is removed, or registered anew,
// goes to what is registered, never to what was.
func TestABeatGoesToWhatIsRegistered(t *testing.T) {
	s, streams, frequent := crowd(t, 2)
	own := streams[0]
	require.NoError(t, s.takeBeat(own.id, own, frequent))
	require.NoError(t, s.register(t.Context(), Component{ID: own.id, MaxInFlight: 7}, 0))
	require.NoError(t, s.takeBeat(own.id, own, marshal(t, &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 3, MaxInFlight: 7}})))
	status, ok := s.registry.get(own.id)
	require.True(t, ok)
	require.EqualValues(t, 3, status.Report.InFlight)
	require.True(t, own.ended.Load(), "and the stream ends")

	require.NoError(t, s.unregister(t.Context(), own.id))
	require.ErrorContains(t, s.takeBeat(own.id, own, frequent), "not registered")
	require.Len(t, s.controller.Loads(), 1)
}
