package flowcontrol

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestObserveAdmitsAndCountsWhatItWouldReject(t *testing.T) {
	th := newTest(t, Config{Mode: Observe, Limit: Cost{Messages: 2}})
	th.SetFraction(0.5)
	var held []Permit
	for range 10 {
		p, err := th.Acquire(t.Context(), one)
		require.NoError(t, err)
		held = append(held, p)
	}
	st := th.Stats()
	require.Equal(t, int64(10), st.InFlight.Messages)
	require.InDelta(t, 5, st.Load, 0)
	require.Zero(t, st.Rejected.Total())
	require.Equal(t, uint64(8), st.WouldReject.Of(ReasonInFlight))
	require.InDelta(t, 5, float64(st.WouldReject.Of(ReasonFraction)), 1)
	for _, p := range held {
		p.Release(Success)
	}
	require.Zero(t, th.InFlight())
}

func TestOffCountsNothing(t *testing.T) {
	th := newTest(t, Config{Mode: Off, Limit: one})
	for range 3 {
		_, err := th.TryAcquire(t.Context(), Cost{1, 5, 5})
		require.NoError(t, err)
		_, err = th.Acquire(t.Context(), one)
		require.NoError(t, err)
		require.NoError(t, th.Pace(t.Context(), one))
	}
	require.Zero(t, th.Stats().Admitted)
}

func TestTokensAreEnforcedOnlyUnderPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(
			t,
			Config{Mode: EnforceUnderPressure, Limit: Cost{Messages: 10}, Rate: Rates{Messages: 1}, Burst: Cost{Messages: 1}},
		)
		var held []Permit
		for range 8 { // to a load of 0.8
			p, err := th.TryAcquire(t.Context(), one)
			require.NoError(t, err)
			held = append(held, p)
		}
		_, err := th.TryAcquire(t.Context(), one)
		require.ErrorIs(t, err, ErrRejected, "pressure by load, and the bucket was observed empty")
		for _, p := range held {
			p.Release(Success)
		}
		p, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		p.Release(Success)
		th.SetPressure(true)
		_, err = th.TryAcquire(t.Context(), one)
		require.ErrorIs(t, err, ErrRejected)
		th.SetPressure(false)
		p, err = th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		p.Release(Success)
	})
}

func TestReconfigureChangesEveryKnobLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 4}})
		var held []Permit
		for range 4 {
			p, err := th.TryAcquire(t.Context(), one)
			require.NoError(t, err)
			held = append(held, p)
		}
		waited := make(chan Permit)
		go func() {
			p, err := th.Acquire(t.Context(), one)
			if err != nil {
				t.Error(err)
			}
			waited <- p
		}()
		synctest.Wait()
		require.NoError(t, th.Reconfigure(Config{Limit: Cost{Messages: 2}}))
		require.InDelta(t, 2, th.Load(), 0, "what is in flight stays")
		held[0].Release(Success)
		held[1].Release(Success)
		synctest.Wait()
		require.Equal(t, int64(1), th.Stats().Waiting)
		require.NoError(
			t,
			th.Reconfigure(Config{Limit: Cost{Messages: 3}, Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Start: 3}}),
		)
		p := <-waited // the raised limit let it in
		require.Equal(t, int64(3), th.InFlight().Messages)
		for _, q := range append(held, p) {
			q.Release(Success)
		}
		require.Zero(t, th.InFlight())
	})
}

func TestWatchdogSeesPermitsThatAreNeverReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{WatchdogAge: 10 * time.Second})
		leaked, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		for range 20 {
			p, err := th.TryAcquire(t.Context(), one)
			require.NoError(t, err)
			st := th.Stats()
			p.Release(Success)
			time.Sleep(time.Second)
			_ = st
		}
		st := th.Stats()
		require.Equal(t, 1, st.Overdue)
		require.InDelta(t, 20*time.Second, st.Oldest, float64(2*time.Second))
		for range 3000 { // longer than the watchdog remembers times for
			th.Stats()
			time.Sleep(time.Second)
		}
		require.Equal(t, 1, th.Stats().Overdue)
		leaked.Release(Success)
		require.Zero(t, th.Stats().Overdue)
		require.Zero(t, th.Stats().Oldest)
	})
}

func TestWatchdogSeesPermitsThatAreHeldForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{WatchdogAge: 10 * time.Second})
		held := make([]Permit, 4)
		for i := range held {
			held[i], _ = th.TryAcquire(t.Context(), one)
		}
		for i := range 70_000 {
			st := th.Stats()
			if i > 12 {
				require.Equal(t, len(held), st.Overdue, "after %d s", i)
			}
			require.Equal(t, time.Duration(i)*time.Second, st.Oldest)
			time.Sleep(time.Second)
		}
		for _, p := range held {
			p.Release(Success)
		}
		require.Zero(t, th.Stats().Overdue)
		require.Equal(t, uint64(len(held)), th.Stats().Completed)
	})
}

func TestTenantsAreBoundedAndForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 10}, MaxKeys: 2})
		hold := func(key string) (Permit, error) { return th.TryAcquire(WithKey(t.Context(), key), one) }
		var held []Permit
		for range 7 {
			p, err := hold("greedy")
			require.NoError(t, err, "an empty gate is everybody's")
			held = append(held, p)
		}
		other, err := hold("other")
		require.NoError(t, err)
		_, err = hold("greedy")
		e, _ := err.(*Error)
		require.NotNil(t, e)
		require.Equal(t, ReasonShare, e.Reason)
		third, err := hold("third")
		require.NoError(t, err)
		require.Equal(t, 2, th.Stats().Keys)
		for _, p := range append(held, other, third) {
			p.Release(Success)
		}
		time.Sleep(2 * time.Second)
		th.tenants.count(int64(time.Since(th.base)))
		time.Sleep(2 * time.Second)
		th.tenants.count(int64(time.Since(th.base)))
		require.Zero(t, th.Stats().Keys)
	})
}

func TestRefusalsExplainThemselves(t *testing.T) {
	th := newTest(t, Config{Name: "sink", Limit: Cost{Messages: 3, Rows: 10}})
	p, err := th.TryAcquire(t.Context(), Cost{1, 8, 0})
	require.NoError(t, err)
	_, err = th.TryAcquire(t.Context(), Cost{1, 5, 0})
	require.EqualError(t, err, "flowcontrol: sink: rejected: in_flight (8 of 10 rows in flight, 5 asked)")
	p.Release(Success)
	th.SetFraction(0)
	_, err = th.TryAcquire(t.Context(), one)
	require.EqualError(t, err, "flowcontrol: sink: rejected: fraction (0 admitted)")
}
