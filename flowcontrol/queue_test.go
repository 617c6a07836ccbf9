package flowcontrol

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// line starts calls that wait, one after the other, and returns the order in
// which they were admitted, once each has worked for hold.
type waitingLine struct {
	t     *testing.T
	th    *Throttler
	mu    sync.Mutex
	order []string
	errs  map[string]error
}

func (l *waitingLine) add(ctx context.Context, name string, c Cost, hold time.Duration) {
	go func() {
		p, err := l.th.Acquire(ctx, c)
		l.mu.Lock()
		if err != nil {
			l.errs[name] = err
		} else {
			l.order = append(l.order, name)
		}
		l.mu.Unlock()
		if err == nil {
			time.Sleep(hold)
			p.Release(Success)
		}
	}()
	synctest.Wait()
}

func (l *waitingLine) admitted() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.order...)
}

func newLine(t *testing.T, cfg Config) *waitingLine {
	return &waitingLine{t: t, th: newTest(t, cfg), errs: map[string]error{}}
}

func TestHigherPrioritiesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: one})
		l.add(t.Context(), "first", one, time.Millisecond)
		l.add(WithPriority(t.Context(), Background), "background", one, time.Millisecond)
		l.add(t.Context(), "normal", one, time.Millisecond)
		l.add(WithPriority(t.Context(), Critical), "critical", one, time.Millisecond)
		l.add(WithPriority(t.Context(), High), "high", one, time.Millisecond)
		time.Sleep(time.Second)
		require.Equal(t, []string{"first", "critical", "high", "normal", "background"}, l.admitted())
	})
}

func TestALargeWaiterIsPassedAFewTimesAndThenServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: Cost{Messages: 100, Rows: 10}, Queue: QueueConfig{Passes: 3}})
		l.add(t.Context(), "running", Cost{1, 6, 0}, 10*time.Millisecond)
		l.add(t.Context(), "large", Cost{1, 10, 0}, time.Millisecond)
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			l.add(t.Context(), name, Cost{1, 1, 0}, time.Millisecond)
		}
		require.Equal(t, []string{"running", "a", "b", "c"}, l.admitted(), "smaller ones pass, three times")
		_, err := l.th.TryAcquire(t.Context(), Cost{1, 1, 0})
		require.ErrorIs(t, err, ErrRejected, "a try is one more that would pass")
		time.Sleep(time.Second)
		require.Equal(t, []string{"running", "a", "b", "c", "large"}, l.admitted()[:5])
		require.Len(t, l.admitted(), 7)
		require.Zero(t, l.th.InFlight())
	})
}

func TestCoDelServesTheNewestUnderStandingOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: one})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var mu sync.Mutex
		var waits []time.Duration
		rejected := 0
		for i := range 2000 { // one each millisecond, one served each ten
			go func() {
				began := time.Now()
				p, err := th.Acquire(ctx, one)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					e, ok := errors.AsType[*Error](err)
					if !ok || e.Reason != ReasonQueueTimeout {
						t.Error(err)
					}
					rejected++
					return
				}
				if i > 500 {
					waits = append(waits, time.Since(began))
				}
				time.AfterFunc(10*time.Millisecond, func() { p.Release(Success) })
			}()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		require.NotEmpty(t, waits)
		for _, w := range waits {
			require.LessOrEqual(t, w, 5*time.Millisecond, "waited longer than the target in standing overload")
		}
		require.InDelta(t, 1800, rejected, 30)
		require.Equal(t, uint64(rejected), th.Stats().Rejected.Of(ReasonQueueTimeout))
	})
}

func TestCallsWithoutADeadlineAreNotDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: one})
		for i := range 20 {
			l.add(t.Context(), string(rune('a'+i)), one, time.Second)
		}
		time.Sleep(time.Minute)
		require.Equal(t, "abcdefghijklmnopqrst", strings.Join(l.admitted(), ""))
		require.Empty(t, l.errs)
	})
}

func TestPatientCallsWaitAlthoughTheyHaveADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: one})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l.add(ctx, "first", one, 8*time.Second)
		l.add(ctx, "hurried", one, time.Second)
		l.add(WithoutEarlyRejection(ctx), "patient", one, time.Second)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"first", "patient"}, l.admitted())
		require.ErrorIs(t, l.errs["hurried"], ErrRejected)
	})
}

func TestTheQueueIsBoundedInLengthAndTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: one, Queue: QueueConfig{Length: 2}, MaxWait: 50 * time.Millisecond})
		for _, name := range []string{"a", "b", "c", "d"} {
			l.add(t.Context(), name, one, time.Second)
		}
		reason := func(name string) Reason {
			synctest.Wait()
			l.mu.Lock()
			defer l.mu.Unlock()
			e, ok := errors.AsType[*Error](l.errs[name])
			if !ok {
				return ReasonNone
			}
			return e.Reason
		}
		require.Equal(t, ReasonQueueFull, reason("d"))
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, ReasonMaxWait, reason("b"))
		require.Equal(t, ReasonMaxWait, reason("c"))
		require.Zero(t, l.th.Stats().Waiting)
		time.Sleep(time.Minute)

		none := newLine(t, Config{Limit: one, Queue: QueueConfig{Length: -1}})
		none.add(t.Context(), "a", one, time.Second)
		none.add(t.Context(), "b", one, time.Second)
		require.ErrorIs(t, none.errs["b"], ErrRejected)
		time.Sleep(time.Minute)
	})
}

// Everything at once, with cancellations: nothing leaks and nobody is forgotten.
func TestQueueUnderStress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(
			t,
			Config{
				Limit:   Cost{Messages: 5, Rows: 40},
				Rate:    Rates{Messages: 5000},
				Queue:   QueueConfig{Length: 5000},
				MaxKeys: 3,
			},
		)
		var wg sync.WaitGroup
		for i := range 3000 {
			wg.Go(func() {
				time.Sleep(time.Duration(i*7919%2000) * time.Microsecond)
				ctx := WithKey(WithPriority(t.Context(), Priority(i%4-1)), string(rune('a'+i%5)))
				switch i % 3 {
				case 0:
					c, cancel := context.WithTimeout(ctx, time.Duration(i%50)*time.Millisecond)
					defer cancel()
					ctx = c
				case 1:
					c, cancel := context.WithCancel(ctx)
					time.AfterFunc(time.Duration(i%90)*time.Millisecond, cancel)
					ctx = c
				}
				p, err := th.Acquire(ctx, Cost{1, int64(i % 45), 0})
				if err != nil {
					return
				}
				time.Sleep(time.Duration(i%3) * time.Millisecond)
				p.Release(Outcome(i % 3))
				p.Release(Success)
			})
		}
		time.Sleep(700 * time.Millisecond)
		th.SetFraction(0.5)
		time.Sleep(200 * time.Millisecond)
		th.SetFraction(1)
		wg.Wait()
		st := th.Stats()
		require.Zero(t, st.InFlight)
		require.Zero(t, st.Waiting)
		require.Zero(t, st.Pacing)
		require.Zero(t, st.Permits)
		require.Equal(t, uint64(3000), st.Admitted+st.Rejected.Total())
		for key, k := range th.tenants.known {
			require.Zero(t, k.inFlight, key)
		}
		require.Zero(t, th.tenants.rest.inFlight)
	})
}
