package controlplane

import (
	"fmt"
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
	i := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		require.NoError(t, s.takeBeat(streams[i%10].id, streams[i%10], frequent))
		i++
	}))
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
