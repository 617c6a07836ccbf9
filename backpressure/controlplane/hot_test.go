package controlplane

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// crowd is a server of n components, and their frequent beats.
func crowd(t testing.TB, n int) (s *Server, ids []string, frequent []byte) {
	s, err := NewServer(ServerConfig{
		Decision: backpressure.Config{Learn: -1, Tick: -1, MaxInFlight: -1},
		Limits:   Limits{ComponentsPerPeer: n},
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for i := range n {
		ids = append(ids, fmt.Sprintf("component-%05d", i))
		require.NoError(t, s.register(t.Context(), Component{ID: ids[i], MaxInFlight: 100}, 0))
	}
	return s, ids, marshal(t, &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 10, MaxInFlight: 100, Throughput: 1000}})
}

// BenchmarkHotBeat is what a report costs the control plane once gRPC has
// delivered it.
func BenchmarkHotBeat(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s, ids, frequent := crowd(b, n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				_ = s.takeBeat(ids[i*7919%n], frequent)
				i++
			}
		})
	}
}

func TestTheFrequentBeatAllocatesNothing(t *testing.T) {
	s, ids, frequent := crowd(t, 10)
	i := 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		require.NoError(t, s.takeBeat(ids[i%10], frequent))
		i++
	}))
}
