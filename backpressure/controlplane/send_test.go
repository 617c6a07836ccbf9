package controlplane

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// One wave over many sessions needs few goroutines at a time, and a peer that
// does not read holds it up for no longer than the patience.
func TestAWaveIsSentInPartsAndWaitsForNobodyLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := NewServer(ServerConfig{})
		require.NoError(t, err)
		defer s.Close()
		const sessions, stuck = 1000, 3
		for range sessions {
			own := &session{server: s}
			own.ended.Store(true) // the server's own waves have nothing for it
			require.True(t, s.addSession(own))
		}
		defer clear(s.sessions)
		var began, sending, most, sent atomic.Int64
		release := make(chan struct{})
		start := time.Now()
		s.sendAll(func(*session) bool { return true }, func(*session) {
			if n := sending.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer sending.Add(-1)
			if began.Add(1) <= stuck {
				<-release
			}
			time.Sleep(time.Millisecond)
			sent.Add(1)
		})
		synctest.Wait()
		require.EqualValues(t, sessions-stuck, sent.Load())
		require.LessOrEqual(t, most.Load(), int64(atOnce+stuck))
		require.LessOrEqual(t, time.Since(start), patience+4*time.Millisecond)
		close(release)
		synctest.Wait()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, sessions, sent.Load())
	})
}
