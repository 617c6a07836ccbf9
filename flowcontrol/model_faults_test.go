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

// Faults that the reference model found, each in a short form.

func TestTenantsWithARateAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 2}, MaxKeys: 1, KeyRate: Rates{Messages: 100}})
		time.Sleep(time.Minute)
		p, err := th.TryAcquire(WithKey(t.Context(), "gone"), one)
		require.NoError(t, err)
		p.Release(Success)
		b := WithKey(t.Context(), "b")
		_, err = th.TryAcquire(b, one)
		require.NoError(t, err)
		for range 3 { // what is hot is where tenants are counted
			time.Sleep(time.Second)
			_, _ = th.TryAcquire(b, Cost{Messages: 2})
		}
		require.Equal(t, 1, th.Stats().Keys)
		th.lock()
		defer th.mu.Unlock()
		require.Contains(t, th.tenants.known, "b", "the place of the one that is gone")
	})
}

func TestReconfigureReachesTenantsThatShareAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{MaxKeys: 1, KeyRate: Rates{Messages: 0.001}}
		th := newTest(t, cfg)
		for _, key := range []string{"known", "other"} {
			_, err := th.TryAcquire(WithKey(t.Context(), key), one)
			require.NoError(t, err)
		}
		l := &waitingLine{t: t, th: th, errs: map[string]error{}}
		l.add(WithKey(t.Context(), "another"), "another", one, time.Second)
		require.Empty(t, l.admitted())
		cfg.KeyRate.Messages = 1000
		require.NoError(t, th.Reconfigure(cfg))
		time.Sleep(10 * time.Millisecond)
		require.Equal(t, []string{"another"}, l.admitted())
		time.Sleep(time.Minute)
	})
}

func TestASmallCostDoesNotSleepUntilALargeOneHasItsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Rate: Rates{Messages: 10}, Burst: Cost{Messages: 3}})
		l.add(t.Context(), "burst", Cost{Messages: 3}, time.Second)
		l.add(t.Context(), "large", Cost{Messages: 3}, time.Second)
		l.add(t.Context(), "small", one, time.Second)
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, []string{"burst", "small"}, l.admitted(), "its token is there")
		time.Sleep(time.Minute)
	})
}

func TestRetryAfterIsExactToTheNanosecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Messages: 10}, Burst: one})
		_, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		_, err = th.TryAcquire(t.Context(), one)
		rejected, _ := errors.AsType[*Error](err)
		require.Equal(t, 100*time.Millisecond, rejected.RetryAfter)
		time.Sleep(rejected.RetryAfter - 1)
		_, err = th.TryAcquire(t.Context(), one)
		require.ErrorIs(t, err, ErrRejected)
		time.Sleep(time.Nanosecond)
		_, err = th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
	})
}

func TestARejectedCallHasOvertakenNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: Cost{Messages: 2, Rows: 10}, Queue: QueueConfig{Length: 2, Passes: 1}})
		l.add(t.Context(), "running", Cost{2, 6, 0}, time.Minute)
		l.add(t.Context(), "large", Cost{0, 10, 0}, time.Second)
		l.add(t.Context(), "second", one, time.Second)
		l.add(t.Context(), "third", Cost{0, 1, 0}, time.Second)
		require.ErrorIs(t, l.errs["third"], ErrRejected, "the queue is full")
		_, err := l.th.TryAcquire(t.Context(), Cost{0, 1, 0})
		require.NoError(t, err, "the first that goes past the large one")
		_, err = l.th.TryAcquire(t.Context(), Cost{0, 1, 0})
		require.ErrorIs(t, err, ErrRejected)
		require.NoError(t, l.th.Reconfigure(Config{}))
		time.Sleep(time.Hour)
	})
}

func TestObservedPacesAreCountedAndBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Mode: Observe})
		th.SetFraction(0.5)
		time.Sleep(time.Second)
		for range 1000 {
			require.NoError(t, th.Pace(t.Context(), one))
		}
		th.lock()
		require.LessOrEqual(t, len(th.duty.unheld), 1)
		require.LessOrEqual(t, th.duty.debt, 0.0, "before the first Pace nobody worked")
		th.mu.Unlock()
	})
}

func TestARejectedPaceLeavesItsShareToOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 2}, Rate: Rates{Bytes: 1}, MaxWait: time.Second})
		th.Charge(t.Context(), Cost{Bytes: 100})
		th.SetFraction(0.5)
		require.NoError(t, th.Pace(t.Context(), one))
		l := &waitingLine{t: t, th: th, errs: map[string]error{}}
		l.add(t.Context(), "waits", one, time.Second)
		require.Empty(t, l.admitted())
		require.ErrorIs(t, th.Pace(t.Context(), Cost{Bytes: 1}), ErrRejected, "and its work before this one is done")
		require.Equal(t, []string{"waits"}, l.admitted())
		time.Sleep(time.Minute)
	})
}

func TestAllThatWaitForTheTokensOfTheirTenantCountAsPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: Cost{Rows: 5}, MaxKeys: 4, KeyRate: Rates{Messages: 1}})
		a := WithKey(t.Context(), "a")
		for _, name := range []string{"admitted", "next", "behind", "and behind"} {
			l.add(a, name, one, time.Second)
		}
		st := l.th.Stats()
		require.Equal(t, int64(3), st.Pacing)
		require.Zero(t, st.Waiting)
		time.Sleep(time.Minute)
	})
}

func TestRetryAfterCountsHugeCostsThatWaitAsWhatTheyTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: -1}, Rate: Rates{Messages: 10}, Burst: Cost{Messages: 10}})
		_, err := th.TryAcquire(t.Context(), Cost{Messages: 10})
		require.NoError(t, err)
		retry := func(n int64) time.Duration {
			_, err := th.TryAcquire(t.Context(), Cost{Messages: n})
			rejected, _ := errors.AsType[*Error](err)
			require.Equal(t, ReasonRate, rejected.Reason)
			return rejected.RetryAfter
		}
		l := &waitingLine{t: t, th: th, errs: map[string]error{}}
		for range 3 {
			l.add(t.Context(), "five", Cost{Messages: 5}, 0)
		}
		require.Equal(t, 2500*time.Millisecond, retry(math.MaxInt64), "the fifteen, and then a full bucket")

		l.add(t.Context(), "huge", Cost{Messages: math.MaxInt64}, 0) // at 2.5 s, and owes two bursts
		require.Equal(t, 4600*time.Millisecond, retry(1))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = th.Acquire(ctx, one)
		require.NoError(t, err, "there is time enough")
		time.Sleep(time.Minute)
	})
}

func TestTheTimerFiresOnceForOneTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: one})
		l.add(t.Context(), "running", one, time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 80*time.Millisecond)
		defer cancel()
		before := l.th.line.walks
		l.add(ctx, "late", one, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorIs(t, l.errs["late"], ErrRejected)
		require.Equal(t, uint64(3), l.th.line.walks-before, "as it came, and before and after it was rejected")
		time.Sleep(time.Hour)
	})
}

func TestAChargeThatHoldsBackOneTenantLetsOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{
			Rate: Rates{Messages: 1}, MaxKeys: 2,
			KeyRate: Rates{Messages: 1}, KeyBurst: Cost{Messages: 10},
		})
		a, b := WithKey(t.Context(), "a"), WithKey(t.Context(), "b")
		l := &waitingLine{t: t, th: th, errs: map[string]error{}}
		l.add(a, "the token", one, 0)
		l.add(a, "waits", one, 0)
		l.add(b, "needs none", Cost{Rows: 1}, 0)
		require.Equal(t, []string{"the token"}, l.admitted())
		th.Charge(a, Cost{Messages: 20})
		require.Equal(t, []string{"the token", "needs none"}, l.admitted())
		time.Sleep(time.Minute)
	})
}

func TestTheTimerOfAFractionIsSetForTheFirstMomentThatAdmits(t *testing.T) {
	for _, f := range []float64{1e-9, 1e-6, 0.25, 0.5} {
		after := func(d int64) duty {
			rested := duty{debt: 100}
			rested.advance(d, f, 1, unlimited)
			return rested
		}
		now := after(0)
		due := now.due(0, f, 1, unlimited)
		before, then := after(due-1), after(due)
		require.False(t, before.admits(f, 1, unlimited), "%g: a nanosecond before", f)
		require.True(t, then.admits(f, 1, unlimited), "%g: after %v", f, time.Duration(due))
	}
}

func TestAWaitForTokensIsNotPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Messages: 0.1}, Burst: one})
		_, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		before := th.line.walks
		_, err = th.Acquire(ctx, one)
		require.NoError(t, err)
		require.Less(t, th.line.walks-before, uint64(50), "in a wait of ten seconds")
	})
}

func TestAShorterQueueRejectsNobodyThatMayGo(t *testing.T) {
	for _, cfg := range []Config{{Limit: Cost{Messages: 2}}, {Mode: Observe}, {Mode: Off}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLine(t, Config{Limit: one})
			l.add(t.Context(), "first", one, time.Minute)
			l.add(t.Context(), "second", one, time.Minute)
			cfg.Queue.Length = -1
			require.NoError(t, l.th.Reconfigure(cfg))
			require.Equal(t, []string{"first", "second"}, l.admitted())
			time.Sleep(time.Hour)
		})
	}
}

func TestWhatNeverFitsDoesNotWaitToBeToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: Cost{Messages: 1, Rows: 10}, RejectOversized: true})
		l.add(t.Context(), "running", one, time.Minute)
		l.add(t.Context(), "waiting", one, time.Minute)
		oversized := func() {
			t.Helper()
			began := time.Now()
			_, err := l.th.Acquire(t.Context(), Cost{1, 11, 0})
			rejected, _ := errors.AsType[*Error](err)
			require.Equal(t, ReasonOversized, rejected.Reason)
			require.Zero(t, time.Since(began))
		}
		oversized()
		l.th.SetFraction(0)
		oversized()
		l.th.SetFraction(1)
		time.Sleep(time.Hour)
		l.th.SetFraction(0)
		oversized()
	})
}

// A tenant's hint counts what the tenant itself waits for, under the rates in force.
func TestRetryAfterOfATenantCountsItsOwnThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Limit: Cost{Messages: -1}, MaxKeys: 4, KeyRate: Rates{Messages: 1}, KeyBurst: one}
		th := newTest(t, cfg)
		ctx, cancel := context.WithCancel(WithKey(t.Context(), "a"))
		defer cancel()
		retry := func(ctx context.Context) time.Duration {
			_, err := th.TryAcquire(ctx, one)
			rejected, _ := errors.AsType[*Error](err)
			require.Equal(t, ReasonTenantRate, rejected.Reason)
			return rejected.RetryAfter
		}
		for range 11 {
			go func() { _, _ = th.Acquire(ctx, one) }()
		}
		synctest.Wait()
		require.Equal(t, 11*time.Second, retry(ctx))
		other := WithKey(t.Context(), "b")
		_, err := th.TryAcquire(other, one)
		require.NoError(t, err)
		require.Equal(t, time.Second, retry(other), "those of another tenant do not count")
		cfg.KeyRate.Messages = 10
		require.NoError(t, th.Reconfigure(cfg))
		require.Equal(t, 1100*time.Millisecond, retry(ctx))
		cancel()
		synctest.Wait()
		require.Equal(t, 100*time.Millisecond, retry(ctx))
	})
}
