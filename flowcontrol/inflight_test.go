package flowcontrol

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Ten thousand goroutines against each limit; the count that they keep
// themselves, of the work that is really going on, never exceeds it.
func TestInFlightNeverExceedsTheLimitByEvenOne(t *testing.T) {
	th := newTest(t, Config{Limit: Cost{Messages: 37, Rows: 500, Bytes: 1 << 20}})
	var messages, rows, admitted atomic.Int64
	var wg sync.WaitGroup
	for g := range 10_000 {
		if g == 5000 {
			wg.Wait() // the race detector allows 8128 at a time
		}
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for range 5 {
				c := Cost{Messages: 1 + r.Int64N(2), Rows: r.Int64N(60), Bytes: r.Int64N(1 << 16)}
				p, err := th.TryAcquire(t.Context(), c)
				if err != nil {
					continue
				}
				admitted.Add(1)
				if n := messages.Add(c.Messages); n > 37 {
					t.Errorf("%d messages in flight, the limit is 37", n)
				}
				if n := rows.Add(c.Rows); n > 500 {
					t.Errorf("%d rows in flight, the limit is 500", n)
				}
				rows.Add(-c.Rows)
				messages.Add(-c.Messages)
				q := p
				p.Release(Success)
				q.Release(Success)
			}
		})
	}
	wg.Wait()
	require.Zero(t, th.InFlight())
	st := th.Stats()
	require.Zero(t, st.Permits)
	require.Equal(t, uint64(admitted.Load()), st.Admitted)
	require.Equal(t, uint64(50_000), st.Admitted+st.Rejected.Total())
	require.LessOrEqual(t, st.Peak.Messages, int64(37))
	require.LessOrEqual(t, st.Peak.Rows, int64(500))
}

func TestWaitingCallersNeverExceedTheLimit(t *testing.T) {
	th := newTest(t, Config{Limit: Cost{Messages: 3}, Queue: QueueConfig{Length: 10_000}})
	var working, most atomic.Int64
	var wg sync.WaitGroup
	for range 2000 {
		wg.Go(func() {
			p, err := th.Acquire(t.Context(), one)
			if err != nil {
				t.Error(err)
				return
			}
			if n := working.Add(1); n > most.Load() {
				most.Store(n)
			}
			working.Add(-1)
			p.Release(Success)
		})
	}
	wg.Wait()
	require.LessOrEqual(t, most.Load(), int64(3))
	require.Zero(t, th.InFlight())
	require.Equal(t, uint64(2000), th.Stats().Succeeded)
}

// Copies of a permit that are released at the same moment, with everything that
// a permit can hold, wherever its slot lies.
func TestCopiesReleasedTogetherCountOnce(t *testing.T) {
	th := newTest(t, Config{
		Limit: Cost{Messages: 1000, Rows: 1000, Bytes: 1000}, MaxKeys: 3,
		Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Min: 1000, Max: 1000},
	})
	ctx := WithKey(t.Context(), "k")
	const rounds, copies = 2000, 3
	for range rounds {
		var wg sync.WaitGroup
		for i := range int64(4) {
			p, err := th.TryAcquire(ctx, Cost{1 + i%2, i, i})
			require.NoError(t, err)
			for range copies {
				wg.Go(func() { p.Release(Success) })
			}
			// While the copies end it, others take what it leaves.
			wg.Go(func() {
				q, err := th.TryAcquire(ctx, Cost{1, 1, 1})
				require.NoError(t, err)
				q.Release(Ignored)
			})
		}
		wg.Wait()
		require.Zero(t, th.InFlight())
	}
	st := th.Stats()
	require.Zero(t, st.Permits)
	require.Equal(t, uint64(rounds*4), st.Succeeded)
	require.Equal(t, uint64(rounds*4), st.Ignored)
	require.Zero(t, th.tenants.of("k", 3).inFlight)
}

func TestStatsStayRightWhileEverythingIsRefused(t *testing.T) {
	th := newTest(t, Config{Limit: Cost{Messages: 4}})
	held := make([]Permit, 4)
	for i := range held {
		held[i], _ = th.TryAcquire(t.Context(), one)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				p, err := th.TryAcquire(t.Context(), one)
				if err == nil {
					t.Error("admitted into a full gate")
				}
				p.Release(Success)
			}
		})
	}
	last := uint64(0)
	for range 100 {
		st := th.Stats()
		require.Equal(t, Cost{Messages: 4}, st.InFlight)
		require.Equal(t, uint64(4), st.Admitted)
		require.InDelta(t, 1, st.Load, 0)
		require.GreaterOrEqual(t, st.Rejected.Total(), last)
		last = st.Rejected.Total()
	}
	wg.Wait()
	require.Equal(t, uint64(40_000), th.Stats().Rejected.Of(ReasonInFlight))
	for _, p := range held {
		p.Release(Success)
	}
	require.Equal(t, uint64(4), th.Stats().Succeeded)
}

func TestManyPermitsStillCount(t *testing.T) {
	const n = 70_000
	th := newTest(t, Config{Limit: Cost{Messages: -1}})
	held := make([]Permit, 0, n)
	for range n {
		p, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		held = append(held, p)
	}
	require.Equal(t, int64(n), th.InFlight().Messages)
	for _, p := range held {
		p.Release(Success)
		p.Release(Success)
	}
	require.Zero(t, th.InFlight())
	require.Equal(t, uint64(n), th.Stats().Completed)
}

// Two monitors that look at one gate see the same peak, for 10 to 20 seconds.
func TestReadingThePeakChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{})
		a, _ := th.TryAcquire(t.Context(), Cost{1, 5, 9})
		b, _ := th.TryAcquire(t.Context(), Cost{1, 6, 1})
		b.Release(Success)
		a.Release(Success)
		for at := time.Duration(0); at <= 10*time.Second; at += time.Second {
			require.Equal(t, Cost{2, 11, 10}, th.Stats().Peak, "after %v", at)
			require.Equal(t, Cost{2, 11, 10}, th.Stats().Peak, "again after %v", at)
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Second)
		require.Zero(t, th.Stats().Peak)
	})
}

func TestOversizedRunsAloneOrNeverByPolicy(t *testing.T) {
	th := newTest(t, Config{Limit: Cost{Messages: 4, Bytes: 100}})
	small, err := th.TryAcquire(t.Context(), Cost{1, 0, 1})
	require.NoError(t, err)
	big := Cost{1, 0, 1 << 62}
	_, err = th.TryAcquire(t.Context(), big)
	require.ErrorIs(t, err, ErrRejected)
	small.Release(Success)
	p, err := th.TryAcquire(t.Context(), big)
	require.NoError(t, err)
	require.Equal(t, int64(100), th.InFlight().Bytes)
	_, err = th.TryAcquire(t.Context(), Cost{1, 0, 1})
	require.ErrorIs(t, err, ErrRejected)
	p.Release(Success)
	require.Zero(t, th.InFlight())

	cfg := th.Config()
	cfg.RejectOversized = true
	require.NoError(t, th.Reconfigure(cfg))
	_, err = th.TryAcquire(t.Context(), big)
	var rejected *Error
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, ReasonOversized, rejected.Reason)
	require.Equal(t, Bytes, rejected.Weight)
	require.Equal(t, Never, rejected.RetryAfter)
	_, err = th.Acquire(t.Context(), big)
	require.ErrorIs(t, err, ErrRejected)
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for name, cfg := range map[string]Config{
		"limit":    {},
		"all":      {Limit: Cost{8, 1000, 1000}, Rate: Rates{Messages: 1e9, Rows: 1e9}},
		"adaptive": {Adaptive: AdaptiveConfig{Mode: AdaptiveOn}},
		"tenants":  {MaxKeys: 10},
		"off":      {Mode: Off},
		"observe":  {Mode: Observe},
	} {
		t.Run(name, func(t *testing.T) {
			th := newTest(t, cfg)
			th.SetFraction(0.999999)
			ctx := t.Context()
			require.Zero(t, testing.AllocsPerRun(1000, func() {
				p, _ := th.TryAcquire(ctx, one)
				p.Release(Success)
			}))
		})
	}
	th := newTest(t, Config{Limit: one})
	_, _ = th.TryAcquire(t.Context(), one)
	require.Zero(
		t,
		testing.AllocsPerRun(1000, func() { _, _ = th.TryAcquire(t.Context(), one) }),
		"a rejection for the same facts",
	)
}
