package flowcontrol

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// paced runs workers that do nothing but acquire and work, and returns how
// many items were finished after d.
func paced(t *testing.T, th *Throttler, workers int, item, d time.Duration) int {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	done := 0
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				p, err := th.Acquire(ctx, one)
				if err != nil {
					return
				}
				time.Sleep(item)
				p.Release(Success)
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	time.Sleep(d)
	synctest.Wait()
	mu.Lock()
	n := done
	mu.Unlock()
	cancel()
	wg.Wait()
	return n
}

func TestFractionPacesToItsShareOfTheThroughput(t *testing.T) {
	for _, f := range []float64{0.1, 0.25, 0.5, 0.9} {
		for _, item := range []time.Duration{100 * time.Microsecond, 5 * time.Millisecond, 300 * time.Millisecond} {
			for _, workers := range []int{1, 16} {
				t.Run(fmt.Sprintf("%g/%v/%d", f, item, workers), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						th := newTest(t, Config{})
						th.SetFraction(f)
						const items = 250
						d := time.Duration(float64(item) * items / f / float64(workers))
						d += d % item
						got := paced(t, th, workers, item, d)
						want := f * float64(workers) * float64(d) / float64(item)
						require.GreaterOrEqual(t, want, 200.0)
						require.LessOrEqual(t, math.Abs(float64(got)-want), float64(workers)+0.05*want, "got %d, want %.1f", got, want)
					})
				})
			}
		}
	}
}

func TestFractionPacesUnderAnInFlightLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 4}})
		th.SetFraction(0.5)
		got := paced(t, th, 40, 10*time.Millisecond, 2*time.Second)
		require.InDelta(t, 0.5*4*200, float64(got), 4+0.05*400)
	})
}

func TestPaceSlowsASenderThatHoldsNothing(t *testing.T) {
	for _, senders := range []int{1, 3} {
		t.Run(fmt.Sprint(senders), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				th := newTest(t, Config{})
				th.SetFraction(0.25)
				ctx, cancel := context.WithCancel(t.Context())
				var mu sync.Mutex
				sent := 0
				var wg sync.WaitGroup
				for range senders {
					wg.Go(func() {
						for th.Pace(ctx, one) == nil {
							time.Sleep(5 * time.Millisecond)
							mu.Lock()
							sent++
							mu.Unlock()
						}
					})
				}
				time.Sleep(5 * time.Second)
				cancel()
				wg.Wait()
				require.InDelta(t, 0.25*1000*float64(senders), float64(sent), 0.05*250*float64(senders)+1)
				require.Zero(t, th.InFlight())
			})
		})
	}
}

func TestFractionCanOpenAndCloseWhileCallersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{})
		th.SetFraction(0)
		done := make(chan error, 8)
		for range 8 {
			go func() { p, err := th.Acquire(t.Context(), one); p.Release(Success); done <- err }()
		}
		time.Sleep(time.Hour)
		require.Empty(t, done, "admitted at a fraction of 0")
		require.Equal(t, int64(8), th.Stats().Pacing)
		th.SetFraction(1)
		for range 8 {
			require.NoError(t, <-done)
		}
		th.SetFraction(math.NaN())
		require.InDelta(t, 1, th.Fraction(), 0)
		th.SetFraction(-3)
		require.Zero(t, th.Fraction())
		th.SetFraction(math.Inf(1))
		require.InDelta(t, 1, th.Fraction(), 0)
	})
}

func TestPacedWaitEndsWithItsContextAndMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{MaxWait: 20 * time.Millisecond})
		th.SetFraction(0)
		began := time.Now()
		_, err := th.Acquire(t.Context(), one)
		require.ErrorIs(t, err, ErrRejected)
		require.Equal(t, 20*time.Millisecond, time.Since(began))
		ctx, cancel := context.WithTimeout(WithoutEarlyRejection(t.Context()), time.Millisecond)
		defer cancel()
		_, err = th.Acquire(ctx, one)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Zero(t, th.duty.working)
		require.Zero(t, th.line.length)
		st := th.Stats()
		require.Equal(t, uint64(1), st.Rejected.Of(ReasonMaxWait))
		require.Equal(t, uint64(1), st.Rejected.Of(ReasonCanceled))
	})
}

// A request with a deadline that waited long for the fraction would be admitted
// only to be late, and its work wasted in every stage behind.
func TestHurriedCallsAreRefusedWhileThereIsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{})
		th.SetFraction(0)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 160*time.Millisecond)
		defer cancel()
		_, err := th.Acquire(ctx, one)
		rejection, ok := errors.AsType[*Error](err)
		require.True(t, ok, err)
		require.Equal(t, ReasonFraction, rejection.Reason)
		require.Equal(t, 10*time.Millisecond, time.Since(began), "a sixteenth of its time")
		require.Zero(t, th.duty.working)
		require.Zero(t, th.line.length)
	})
}

// What bounds the wait for the fraction does not bound the wait for tokens.
func TestHurriedCallsWaitForTokensAsWithoutAFraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Rate: Rates{Messages: 10}, Burst: one})
		th.SetFraction(0.99)
		ctx, cancel := context.WithTimeout(t.Context(), 800*time.Millisecond)
		defer cancel()
		began := time.Now()
		for range 2 {
			p, err := th.Acquire(ctx, one)
			require.NoError(t, err)
			p.Release(Success)
		}
		require.InDelta(t, 100*time.Millisecond, time.Since(began), float64(2*time.Millisecond))
	})
}
