package flowcontrol

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBucketNeverMintsTokensFromAStaleClock(t *testing.T) {
	// Two callers whose clocks differ by a millisecond, no time passing: a
	// bucket that rewinds with the older one admits twenty thousand.
	var b bucket
	b.set(99_999, 100, 0)
	take := func(now int64) bool {
		if b.wait(1, now) > 0 {
			return false
		}
		b.take(1, now)
		return true
	}
	admitted := 0
	for range 10_000 {
		for _, now := range []time.Duration{time.Second, time.Second - time.Millisecond} {
			if take(bucketTime(int64(now))) {
				admitted++
			}
		}
	}
	require.Equal(t, 100, admitted)
	for _, now := range []int64{0, -1 << 40, math.MinInt64 >> 8} {
		require.False(t, take(now), "minted at %d", now)
	}
	n := 0
	for n < 1000 && take(1<<60) {
		n++
	}
	require.Equal(t, 100, n, "a huge elapsed time fills the bucket once")
}

func TestRateIsExact(t *testing.T) {
	for _, rate := range []Rate{3, 999, 250_000} {
		synctest.Test(t, func(t *testing.T) {
			th := newTest(t, Config{Rate: Rates{Messages: rate}, Burst: Cost{Messages: 1000}})
			admitted := 0
			for range 2000 {
				for {
					p, err := th.TryAcquire(t.Context(), one)
					if err != nil {
						break
					}
					admitted++
					p.Release(Success)
				}
				time.Sleep(time.Millisecond)
			}
			want := 1000 + 2*float64(rate)
			require.InDelta(t, want, float64(admitted), 1+0.001*want, "rate %v", rate)
		})
	}
}

func TestRetryAfterIsExactForTheCallersWeight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Messages: 1000, Rows: 100}, Burst: Cost{Messages: 10, Rows: 50}})
		p, err := th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 40})
		require.NoError(t, err)
		p.Release(Success)
		_, err = th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 30})
		rejected, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.Equal(t, ReasonRate, rejected.Reason)
		require.Equal(t, Rows, rejected.Weight)
		require.InDelta(t, 200*time.Millisecond, rejected.RetryAfter, 2)
		time.Sleep(rejected.RetryAfter - 2*time.Microsecond)
		_, err = th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 30})
		require.Error(t, err, "one moment too early")
		time.Sleep(2 * time.Microsecond)
		p, err = th.TryAcquire(t.Context(), Cost{Messages: 1, Rows: 30})
		require.NoError(t, err)
		p.Release(Success)
		require.Zero(t, th.InFlight())
	})
}

func TestRejectedAndCancelledCallsSpendNoTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: one, Rate: Rates{Messages: 10, Rows: 10}, Burst: Cost{Messages: 5, Rows: 5}})
		level := func() (m, r float64) {
			now := bucketTime(int64(time.Since(th.base)))
			return th.buckets[Messages].level(now), th.buckets[Rows].level(now)
		}
		p, err := th.TryAcquire(t.Context(), Cost{1, 3, 0})
		require.NoError(t, err)
		m, r := level()
		require.InDelta(t, 4, m, 1e-6)
		require.InDelta(t, 2, r, 1e-6)
		_, err = th.TryAcquire(t.Context(), one) // no room in flight
		require.ErrorIs(t, err, ErrRejected)
		p.Release(Success)
		_, err = th.TryAcquire(t.Context(), Cost{1, 3, 0}) // not enough rows
		require.ErrorIs(t, err, ErrRejected)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := th.Acquire(ctx, Cost{1, 5, 0}); done <- err }()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		m, r = level()
		require.InDelta(t, 4, m, 1e-6)
		require.InDelta(t, 2, r, 1e-6)
		require.Zero(t, th.InFlight())

		// A deadline that comes before the tokens do is an answer at once.
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err = th.Acquire(ctx, Cost{1, 5, 0})
		rejected, ok := errors.AsType[*Error](err)
		require.True(t, ok)
		require.Equal(t, ReasonDeadline, rejected.Reason)
		require.Zero(t, time.Since(began))
		require.InDelta(t, 300*time.Millisecond, rejected.RetryAfter, 2)
	})
}

func TestChargeOwesAtMostTwoBursts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Bytes: 1000}, Burst: Cost{Bytes: 100}})
		th.Charge(t.Context(), Cost{Bytes: math.MaxInt64})
		began := time.Now()
		p, err := th.Acquire(t.Context(), Cost{1, 0, 100})
		require.NoError(t, err)
		p.Release(Success)
		require.InDelta(t, 300*time.Millisecond, time.Since(began), 10)
	})
}

func TestObservedWorkLeavesNoFullBucketBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Mode: Observe, Rate: Rates{Messages: 10}, Burst: Cost{Messages: 10}}
		th := newTest(t, cfg)
		for range 10 {
			p, err := th.TryAcquire(t.Context(), one)
			require.NoError(t, err)
			p.Release(Success)
		}
		require.Zero(t, th.Stats().WouldReject.Total())
		p, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		p.Release(Success)
		require.Equal(t, uint64(1), th.Stats().WouldReject.Of(ReasonRate))
		cfg.Mode = Enforce
		require.NoError(t, th.Reconfigure(cfg))
		_, err = th.TryAcquire(t.Context(), one)
		require.ErrorIs(t, err, ErrRejected)
	})
}

func TestReconfigureKeepsWhatWasSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Messages: 10}, Burst: Cost{Messages: 10}})
		for range 10 {
			p, err := th.TryAcquire(t.Context(), one)
			require.NoError(t, err)
			defer p.Release(Success)
		}
		require.NoError(t, th.Reconfigure(Config{Rate: Rates{Messages: 1000}, Burst: Cost{Messages: 10}}))
		_, err := th.TryAcquire(t.Context(), one)
		rejected, ok := errors.AsType[*Error](err)
		require.True(t, ok, "the new rate began with a full bucket")
		require.InDelta(t, time.Millisecond, rejected.RetryAfter, 1000)
		require.Equal(t, int64(10), th.InFlight().Messages)
	})
}

func TestOversizedForTheBucketIsPaidLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Rows: 100}, Burst: Cost{Rows: 10}})
		p, err := th.TryAcquire(t.Context(), Cost{1, 25, 0})
		require.NoError(t, err)
		p.Release(Success)
		_, err = th.TryAcquire(t.Context(), Cost{1, 10, 0})
		rejected, _ := errors.AsType[*Error](err)
		require.NotNil(t, rejected)
		require.InDelta(t, 250*time.Millisecond, rejected.RetryAfter, 10)
		require.NoError(t, th.Reconfigure(Config{Rate: Rates{Rows: 100}, Burst: Cost{Rows: 10}, RejectOversized: true}))
		_, err = th.TryAcquire(t.Context(), Cost{1, 25, 0})
		rejected, _ = errors.AsType[*Error](err)
		require.Equal(t, ReasonOversized, rejected.Reason)
	})
}
