package flowcontrol

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func newTest(t testing.TB, cfg Config) *Throttler {
	t.Helper()
	th, err := New(cfg)
	require.NoError(t, err)
	return th
}

var one = Cost{Messages: 1}

func TestTryAdmitsToTheLimitAndReleaseCountsOnce(t *testing.T) {
	th := newTest(t, Config{Limit: Cost{Messages: 2, Rows: 10}})
	a, err := th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 4, Bytes: 7})
	require.NoError(t, err)
	_, err = th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 7})
	require.ErrorIs(t, err, ErrRejected)
	require.Equal(t, Cost{1, 4, 7}, th.InFlight(), "a rejected call left something behind")
	b, err := th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 6})
	require.NoError(t, err)
	_, err = th.TryAcquire(t.Context(), one)
	require.ErrorIs(t, err, ErrRejected)
	require.InDelta(t, 1, th.Load(), 0)

	copied := a
	a.Release(Success)
	copied.Release(Dropped)
	a.Release(Success)
	require.Equal(t, Cost{1, 6, 0}, th.InFlight())
	c, err := th.TryAcquire(t.Context(), one) // takes the slot that a had
	require.NoError(t, err)
	copied.Release(Success)
	require.Equal(t, int64(2), th.InFlight().Messages, "a stale copy released another's work")
	b.Release(Ignored)
	c.Release(Success)
	require.Zero(t, th.InFlight())
	st := th.Stats()
	require.Equal(t, uint64(3), st.Admitted)
	require.Equal(t, uint64(1), st.Ignored)
	require.Equal(t, uint64(2), st.Succeeded)
	require.Equal(t, uint64(2), st.Rejected.Total())
	Permit{}.Release(Success)
}

func TestAcquireWaitsForRoomInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 1}})
		first, err := th.Acquire(t.Context(), one)
		require.NoError(t, err)
		var mu sync.Mutex
		var order []int
		for i := range 5 {
			go func() {
				p, err := th.Acquire(t.Context(), one)
				if err != nil {
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				p.Release(Success)
			}()
			synctest.Wait()
		}
		require.Equal(t, int64(5), th.Stats().Waiting)
		first.Release(Success)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4}, order)
		require.Zero(t, th.InFlight())
		st := th.Stats()
		require.Equal(t, uint64(5), st.Waits)
		require.Equal(t, 10*time.Millisecond, st.WaitTotal)
		require.Equal(t, [11]uint64{2, 1, 2}, st.WaitBuckets)
	})
}

func TestCancelledWhileQueuedLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 1}})
		p, err := th.Acquire(t.Context(), one)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := th.Acquire(ctx, one); done <- err }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		require.Zero(t, th.Stats().Waiting)
		require.Equal(t, Cost{Messages: 1}, th.InFlight())
		p.Release(Success)
		require.Equal(t, uint64(1), th.Stats().Admitted)
	})
}

// A weight without a limit has room for whatever its counter can hold.
func TestAnEnormousCostPassesWhereNothingLimitsIt(t *testing.T) {
	for _, reject := range []bool{false, true} {
		th := newTest(t, Config{RejectOversized: reject})
		huge := Cost{Messages: 1, Rows: math.MaxInt64, Bytes: math.MaxInt64}
		p, err := th.TryAcquire(t.Context(), huge)
		require.NoError(t, err)
		small, err := th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 100, Bytes: 1 << 40})
		require.NoError(t, err, "and leaves room for others")
		_, err = th.TryAcquire(t.Context(), huge)
		require.ErrorIs(t, err, ErrRejected, "two are more than can be counted")
		p.Release(Success)
		small.Release(Success)
		require.Zero(t, th.InFlight())
	}
}
