package connpool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestStatsWaitForNoCall: they are there while every lock is held that a call or
// Get takes.
func TestStatsWaitForNoCall(t *testing.T) {
	m, err := NewManager(Config{})
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		l := idlePool(RoundRobin, 1, 10) // without a worker
		p, s := l.pool, (*l.slots.Load())[0]
		p.cfg.Breaker.Failures = 1
		p.breaker = newBreaker(p.cfg.Breaker, p.cfg.Logger)
		p.lanes, p.slots, s.created = []*lane{l}, []*slot{s}, time.Now()
		m.pools["unused"] = p
		m.listLocked()

		time.Sleep(time.Second)
		begin := func() *call { return &call{slot: s, started: int64(time.Since(s.created)) + 1} }
		first := begin()
		s.add(first)
		time.Sleep(time.Second)
		s.add(begin())
		time.Sleep(time.Second)

		read := func() Stats {
			m.mu.Lock()
			s.mu.Lock()
			p.breaker.mu.Lock()
			l.mu.Lock()
			all := m.Stats()
			l.mu.Unlock()
			p.breaker.mu.Unlock()
			s.mu.Unlock()
			m.mu.Unlock()
			require.Len(t, all, 1)
			return all[0]
		}
		require.Equal(t, 2*time.Second, read().OldestStream)
		s.remove(first)
		require.Equal(t, time.Second, read().OldestStream)
		s.remove(s.calls.Front().Value.(*call))
		require.Zero(t, read().OldestStream)

		require.Equal(t, "closed", read().Breaker)
		p.breaker.done(status.Error(codes.Unavailable, "gone"), false)
		require.Equal(t, "open", read().Breaker)
		time.Sleep(p.cfg.Breaker.OpenFor)
		require.Equal(t, "half_open", read().Breaker)
	})
}

// TestUsesOfAClosedConnectionCountOnce: also between its end and the worker's
// next look. A counter that falls looks to its reader as if it had begun anew.
func TestUsesOfAClosedConnectionCountOnce(t *testing.T) {
	l := idlePool(RoundRobin, 2, 10)
	p := l.pool
	p.lanes, p.slots = []*lane{l}, *l.slots.Load()
	for range 10 {
		l.pick().release()
	}
	require.EqualValues(t, 10, p.Stats().TotalUseCount)
	require.Equal(t, 5.0, p.Stats().AverageUseCount)
	p.slots[0].drain()
	p.forget(p.slots[0])
	require.EqualValues(t, 10, p.Stats().TotalUseCount, "before the worker has looked")
	p.sweep()
	require.EqualValues(t, 10, p.Stats().TotalUseCount)
	require.Equal(t, 5.0, p.Stats().AverageUseCount)
}
