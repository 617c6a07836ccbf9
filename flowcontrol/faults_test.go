package flowcontrol

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Each test here is a fault that an earlier form of the gate had, as a kind.

// simulation is for tests of many virtual seconds. What they find is no race, and
// the race detector makes them ten times slower: they run without it.
func simulation(t *testing.T) {
	t.Helper()
	if testing.Short() || raceDetector {
		t.Skip("a simulation: runs without -short and -race")
	}
}

// crowd runs callers that work for hold each until the end of ctx.
type crowd struct {
	th      *Throttler
	done    atomic.Int64 // units of work that ended well
	outcome atomic.Int64 // of the work, as an Outcome
}

func (c *crowd) run(ctx context.Context, wg *sync.WaitGroup, callers int, verb string, hold time.Duration) {
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				call, cancel := ctx, context.CancelFunc(func() {})
				if verb == "deadline" {
					call, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
				}
				var p Permit
				var err error
				if verb == "try" {
					p, err = c.th.TryAcquire(call, one)
				} else {
					p, err = c.th.Acquire(call, one)
				}
				cancel()
				if err != nil {
					time.Sleep(max(hold, time.Millisecond))
					continue
				}
				time.Sleep(hold)
				o := Outcome(c.outcome.Load())
				if o == Success {
					c.done.Add(1)
				}
				p.Release(o)
			}
		})
	}
}

// Whatever an outage has cost, ten seconds of healthy work bring it back, for
// callers of each kind, and after an outage of any length.
func TestTheLimitComesBackAfterAnyOutage(t *testing.T) {
	simulation(t)
	type row struct {
		hold, outage time.Duration
		limit        int64
	}
	rows := []row{ // the longer the outage, the slower the calls, so that a simulation ends
		{10 * time.Millisecond, 300 * time.Millisecond, 64},
		{10 * time.Millisecond, 3 * time.Second, 64},
		{10 * time.Millisecond, time.Second, 500},
		{time.Second, 300 * time.Millisecond, 64},
		{time.Second, 3 * time.Second, 500},
		{time.Second, 5 * time.Minute, 64},
		{time.Second, time.Hour, 64},
	}
	for _, mode := range []AdaptiveMode{AdaptiveGuard, AdaptiveOn} {
		for _, verb := range []string{"acquire", "deadline", "try"} {
			for _, r := range rows {
				t.Run(fmt.Sprint(mode, verb, r), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := &crowd{th: newTest(t, Config{
							Limit:    Cost{Messages: r.limit},
							Adaptive: AdaptiveConfig{Mode: mode, Max: r.limit, Start: r.limit},
						})}
						ctx, cancel := context.WithCancel(t.Context())
						var wg sync.WaitGroup
						c.run(ctx, &wg, int(r.limit), verb, r.hold)
						time.Sleep(5 * time.Second)
						before := c.th.Limit().Messages
						c.outcome.Store(int64(Dropped))
						time.Sleep(r.outage)
						c.outcome.Store(int64(Success))
						time.Sleep(10 * time.Second)
						after := c.th.Limit().Messages
						require.GreaterOrEqual(t, float64(after), 0.75*float64(before), "the limit was %d", before)
						cancel()
						wg.Wait()
					})
				})
			}
		}
	}
}

// One caller of forty that always ends late, or fails in a tight loop, costs
// the others nothing, and two cost them little.
func TestBadCallersCostTheOthersNothing(t *testing.T) {
	simulation(t)
	for _, mode := range []AdaptiveMode{AdaptiveGuard, AdaptiveOn} {
		for _, hold := range []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond} {
			for bad, least := range map[int]float64{1: 0.95, 2: 0.90} {
				t.Run(fmt.Sprint(mode, hold, bad), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						th := newTest(t, Config{Adaptive: AdaptiveConfig{Mode: mode}})
						good, failing := &crowd{th: th}, &crowd{th: th}
						failing.outcome.Store(int64(Dropped))
						ctx, cancel := context.WithCancel(t.Context())
						var wg sync.WaitGroup
						good.run(ctx, &wg, 40-bad, "acquire", 10*time.Millisecond)
						failing.run(ctx, &wg, bad, "acquire", max(hold, 10*time.Microsecond))
						time.Sleep(10 * time.Second)
						possible := float64(40-bad) * 10 * 100
						require.GreaterOrEqual(t, float64(good.done.Load())/possible, least, "limit %d", th.Limit().Messages)
						cancel()
						wg.Wait()
					})
				})
			}
		}
	}
}

// Where tenants are told apart, one that is late pays alone, however many
// callers it has.
func TestATenantThatIsLatePaysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{MaxKeys: 8})
		good, late := &crowd{th: th}, &crowd{th: th}
		late.outcome.Store(int64(Dropped))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		good.run(WithKey(ctx, "good"), &wg, 20, "acquire", 10*time.Millisecond)
		late.run(WithKey(ctx, "late"), &wg, 20, "acquire", 10*time.Millisecond)
		time.Sleep(20 * time.Second)
		require.GreaterOrEqual(t, float64(good.done.Load()), 0.95*20*20*100)
		require.Equal(t, int64(64), th.Limit().Messages)
		cancel()
		wg.Wait()
	})
}

// Work of two kinds, half of it short and half long whatever the load, leaves
// the learned limit alone.
func TestWorkOfTwoKindsIsNoQueueing(t *testing.T) {
	simulation(t)
	for _, callers := range []int{40, 400} {
		for _, long := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
			t.Run(fmt.Sprint(callers, long), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					th := newTest(t, Config{Adaptive: AdaptiveConfig{Mode: AdaptiveOn}})
					ctx, cancel := context.WithCancel(t.Context())
					var done atomic.Int64
					var wg sync.WaitGroup
					var turn atomic.Uint64
					for range callers {
						wg.Go(func() {
							for {
								p, err := th.Acquire(ctx, one)
								if err != nil {
									return
								}
								hold := 2 * time.Millisecond
								if turn.Add(golden) < 1<<63 {
									hold = long
								}
								time.Sleep(hold)
								p.Release(Success)
								done.Add(1)
							}
						})
					}
					time.Sleep(15 * time.Second)
					from := done.Load()
					time.Sleep(30 * time.Second)
					possible := float64(callers) * 30 / ((2*time.Millisecond + long) / 2).Seconds()
					share := float64(done.Load()-from) / possible
					t.Logf("%d callers, 2 ms or %v: %.2f of what is possible, limit %d", callers, long, share, th.Limit().Messages)
					require.GreaterOrEqual(t, share, 0.85)
					cancel()
					wg.Wait()
				})
			})
		}
	}
}

// Service times of zero, and of a clock that stands still, teach no nonsense.
func TestServiceTimesOfZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Max: 100}})
		round := func(hold time.Duration) {
			var held []Permit
			for range 30 {
				if p, err := th.TryAcquire(t.Context(), one); err == nil {
					held = append(held, p)
				}
			}
			time.Sleep(hold)
			for _, p := range held {
				p.Release(Success)
			}
		}
		for range 100 {
			round(50 * time.Millisecond)
		}
		for range 2000 {
			round(0)
			time.Sleep(5 * time.Millisecond)
			limit := th.Limit().Messages
			require.True(t, limit >= 1 && limit <= 100, "limit %d", limit)
		}
	})
}

// What waits, for each reason to wait.
var holdBack = map[string]func(th *Throttler, ctx context.Context) (undo func()){
	"room": func(th *Throttler, ctx context.Context) func() {
		p, _ := th.TryAcquire(ctx, Cost{Messages: 4})
		return func() { p.Release(Success) }
	},
	"rows": func(th *Throttler, ctx context.Context) func() {
		p, _ := th.TryAcquire(ctx, Cost{Messages: 1, Rows: 10})
		return func() { p.Release(Success) }
	},
	"tokens": func(th *Throttler, ctx context.Context) func() {
		th.Charge(ctx, Cost{Messages: 1 << 20})
		return func() {}
	},
	"tenant's tokens": func(th *Throttler, ctx context.Context) func() {
		th.Charge(ctx, Cost{Rows: 1 << 20})
		return func() {}
	},
	"fraction": func(th *Throttler, ctx context.Context) func() {
		th.SetFraction(0)
		return func() {}
	},
	"share": func(th *Throttler, ctx context.Context) func() {
		p, _ := th.TryAcquire(ctx, Cost{Messages: 2})
		q, _ := th.TryAcquire(WithKey(ctx, "other"), Cost{Messages: 1})
		return func() { p.Release(Success); q.Release(Success) }
	},
}

// Each change of a setting reaches those that wait, whatever they wait for, at
// the moment of the change.
func TestEveryChangeReachesThoseThatWait(t *testing.T) {
	base := Config{
		Limit: Cost{Messages: 4, Rows: 10}, Rate: Rates{Messages: 0.01}, Burst: Cost{Messages: 100}, MaxKeys: 4,
		KeyRate: Rates{Rows: 0.01}, KeyBurst: Cost{Rows: 100}, Adaptive: AdaptiveConfig{Mode: AdaptiveOff},
	}
	frees := func(reasons ...string) map[string]bool {
		m := map[string]bool{}
		for _, r := range reasons {
			m[r] = true
		}
		return m
	}
	all := frees("room", "rows", "tokens", "tenant's tokens", "fraction", "share")
	changes := map[string]struct {
		change  func(th *Throttler)
		frees   map[string]bool // these go
		rejects bool            // and all others are rejected
	}{
		"off":     {func(th *Throttler) { c := base; c.Mode = Off; _ = th.Reconfigure(c) }, all, false},
		"observe": {func(th *Throttler) { c := base; c.Mode = Observe; _ = th.Reconfigure(c) }, all, false},
		"under pressure": {func(th *Throttler) {
			c := base
			c.Mode = EnforceUnderPressure
			_ = th.Reconfigure(c)
		}, frees("tokens", "tenant's tokens"), false},
		"limit": {func(th *Throttler) {
			c := base
			c.Limit = Cost{Messages: 100, Rows: 1000}
			_ = th.Reconfigure(c)
		}, frees("room", "rows", "share"), false},
		"no limit": {func(th *Throttler) {
			c := base
			c.Limit = Cost{Messages: -1, Rows: -1}
			_ = th.Reconfigure(c)
		}, frees("room", "rows", "share"), false},
		"no rate": {
			func(th *Throttler) { c := base; c.Rate = Rates{}; _ = th.Reconfigure(c) },
			frees("tokens"),
			false,
		},
		"no tenant rate": {
			func(th *Throttler) { c := base; c.KeyRate = Rates{}; _ = th.Reconfigure(c) },
			frees("tenant's tokens"),
			false,
		},
		"a tenant's rate": {func(th *Throttler) {
			c := base
			c.KeyRateOf = func(string) (Rates, Cost) { return Rates{}, Cost{} }
			_ = th.Reconfigure(c)
		}, frees("tenant's tokens"), false},
		"no tenants": {func(th *Throttler) {
			c := base
			c.MaxKeys, c.KeyRate = 0, Rates{}
			_ = th.Reconfigure(c)
		}, frees("share", "tenant's tokens"), false},
		"fraction":    {func(th *Throttler) { th.SetFraction(1) }, frees("fraction"), false},
		"no queue":    {func(th *Throttler) { c := base; c.Queue.Length = -1; _ = th.Reconfigure(c) }, nil, true},
		"no patience": {func(th *Throttler) { c := base; c.MaxWait = time.Nanosecond; _ = th.Reconfigure(c) }, nil, true},
	}
	for reason, hold := range holdBack {
		for name, row := range changes {
			t.Run(reason+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					th := newTest(t, base)
					ctx, cancel := context.WithCancel(WithKey(t.Context(), "a"))
					defer cancel()
					undo := hold(th, ctx)
					answers := make(chan error, 3)
					for range 3 {
						go func() {
							p, err := th.Acquire(ctx, Cost{Messages: 1, Rows: 1})
							p.Release(Success)
							answers <- err
						}()
					}
					synctest.Wait()
					require.Empty(t, answers, "they wait")
					time.Sleep(time.Millisecond)
					row.change(th)
					synctest.Wait()
					switch {
					case row.frees[reason]:
						require.Len(t, answers, 3)
						for range 3 {
							require.NoError(t, <-answers)
						}
					case row.rejects:
						require.Len(t, answers, 3)
						for range 3 {
							require.ErrorIs(t, <-answers, ErrRejected)
						}
					default:
						require.Empty(t, answers, "nothing has changed for them")
						cancel()
						for range 3 {
							require.Error(t, <-answers)
						}
					}
					undo()
					require.Zero(t, th.InFlight())
					st := th.Stats()
					require.Zero(t, st.Waiting+st.Pacing)
				})
			})
		}
	}
}

// Nothing that was decided before a wait outlives it: a limit that is lowered
// while calls wait for something else binds them all the same.
func TestALimitThatIsLoweredBindsThoseThatWait(t *testing.T) {
	for name, hold := range map[string]struct{ close, open func(th *Throttler) }{
		"fraction": {func(th *Throttler) { th.SetFraction(0) }, func(th *Throttler) { th.SetFraction(1) }},
		"tokens": {
			func(th *Throttler) { th.Charge(context.Background(), Cost{Messages: 1 << 30}) },
			func(th *Throttler) { _ = th.Reconfigure(Config{Limit: one}) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Limit: Cost{Messages: 64}, Rate: Rates{Messages: 0.001}, Burst: Cost{Messages: 100}}
				th := newTest(t, cfg)
				hold.close(th)
				ctx, cancel := context.WithCancel(t.Context())
				for range 10 {
					go func() { _, _ = th.Acquire(ctx, one) }()
				}
				synctest.Wait()
				cfg.Limit = one
				require.NoError(t, th.Reconfigure(cfg))
				hold.open(th)
				synctest.Wait()
				require.Equal(t, int64(1), th.InFlight().Messages)
				cancel()
			})
		})
	}
}

// Every old and new rate and burst, none included: the tokens that are in the
// bucket stay, no more and no less, and debt stays debt.
func TestEveryChangeOfRateAndBurstKeepsTheBooks(t *testing.T) {
	rates, bursts := []Rate{0, 1, 100, 1000, 200_000}, []int64{1, 10, 1000}
	for _, r1 := range rates {
		for _, b1 := range bursts {
			for _, r2 := range rates {
				for _, b2 := range bursts {
					for _, used := range []float64{0, 0.5, 1, 2.5} {
						var b bucket
						const now = 1 << 50
						b.set(r1, b1, now)
						if r1 > 0 {
							b.full = now + toTime(used*float64(b1)*b.price)
						}
						before := b.level(now)
						b.set(r2, b2, now)
						after := b.level(now)
						row := fmt.Sprintf("%g/s of %d, %g used, then %g/s of %d", r1, b1, used, r2, b2)
						switch {
						case r2 == 0:
							require.Zero(t, after, row)
						case r1 == 0:
							require.InDelta(t, float64(b2-b.prepay), after, 1e-3, row)
						case r1 == r2 && b1 == b2:
							require.InDelta(t, before, after, 1e-3, row)
						default:
							want := min(max(before, -2*float64(b2)), float64(b2-b.prepay))
							require.InDelta(t, want, after, 1e-3+float64(b2)/4*float64(min(b.prepay, 1)), row)
						}
					}
				}
			}
		}
	}
}

// A hint counts what waits before, at the rate in force, whatever was cancelled.
func TestRetryAfterCountsThoseThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Limit: Cost{Messages: -1}, Rate: Rates{Messages: 1000}, Burst: Cost{Messages: 1}}
		th := newTest(t, cfg)
		p, err := th.TryAcquire(t.Context(), one)
		require.NoError(t, err)
		p.Release(Success)
		var cancels []context.CancelFunc
		for range 100 {
			ctx, cancel := context.WithCancel(t.Context())
			cancels = append(cancels, cancel)
			go func() { _, _ = th.Acquire(ctx, one) }()
		}
		synctest.Wait()
		cfg.Rate.Messages = 1
		cfg.Burst.Messages = 1
		require.NoError(t, th.Reconfigure(cfg))
		for _, cancel := range cancels[:50] {
			cancel()
		}
		synctest.Wait()
		_, err = th.TryAcquire(t.Context(), one)
		e, _ := err.(*Error)
		require.NotNil(t, e)
		require.Equal(t, ReasonRate, e.Reason)
		require.InDelta(t, 51*time.Second, e.RetryAfter, float64(10*time.Millisecond))
		for _, cancel := range cancels {
			cancel()
		}
	})
}

// No cost, however large, closes a bucket for longer than its debt takes.
func TestNoCostClosesTheBucketForLong(t *testing.T) {
	for _, verb := range []string{"try", "acquire", "pace", "charge", "observe", "not under pressure"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := Config{Rate: Rates{Rows: 100_000}}
				switch verb {
				case "observe":
					cfg.Mode = Observe
				case "not under pressure":
					cfg.Mode = EnforceUnderPressure
				}
				th := newTest(t, cfg)
				for _, rows := range []int64{1<<31 - 1, math.MaxInt64} {
					c := Cost{Messages: 1, Rows: rows}
					var p Permit
					var err error
					switch verb {
					case "acquire":
						p, err = th.Acquire(t.Context(), c)
					case "pace":
						err = th.Pace(t.Context(), c)
					case "charge":
						th.Charge(t.Context(), c)
					default:
						p, err = th.TryAcquire(t.Context(), c)
					}
					_ = err
					p.Release(Success)
				}
				cfg.Mode = Enforce
				require.NoError(t, th.Reconfigure(cfg))
				began := time.Now()
				p, err := th.Acquire(t.Context(), Cost{Messages: 1, Rows: 10_000})
				require.NoError(t, err)
				p.Release(Success)
				require.LessOrEqual(t, time.Since(began), 310*time.Millisecond)
			})
		})
	}
}

// A call that is rejected leaves nothing behind for a moment either: those that
// wait for one weight are not passed over because others ask for two.
func TestNoWakeUpIsLost(t *testing.T) {
	th := newTest(t, Config{Limit: Cost{Messages: -1, Rows: 10, Bytes: 10}, Queue: QueueConfig{Length: 10_000}})
	bytes, err := th.TryAcquire(t.Context(), Cost{Bytes: 10})
	require.NoError(t, err)
	stop := make(chan struct{})
	var trying, waiting sync.WaitGroup
	for range 4 {
		trying.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, err := th.TryAcquire(t.Context(), Cost{Rows: 10, Bytes: 5})
					if err == nil {
						t.Error("admitted without room")
					}
				}
			}
		})
	}
	for range 1000 {
		waiting.Go(func() {
			p, err := th.Acquire(t.Context(), Cost{Rows: 10})
			if err != nil {
				t.Error(err)
			}
			p.Release(Success)
		})
	}
	waiting.Wait()
	close(stop)
	trying.Wait()
	bytes.Release(Success)
	require.Zero(t, th.InFlight())
}

// A tenant at its share, its size or its priority holds nobody else up while
// there is room.
func TestATenantAtItsShareHoldsNobodyUp(t *testing.T) {
	for _, class := range []string{"in order", "with a deadline"} {
		t.Run(class, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				th := newTest(t, Config{Limit: Cost{Messages: 10}, MaxKeys: 8, Queue: QueueConfig{Length: 20}})
				base, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if class == "in order" {
					base = t.Context()
				}
				a, b := WithKey(base, "a"), WithKey(base, "b")
				other, err := th.TryAcquire(b, one)
				require.NoError(t, err)
				var held []Permit
				for range 6 {
					p, err := th.TryAcquire(a, one)
					require.NoError(t, err)
					held = append(held, p)
				}
				_, err = th.TryAcquire(a, Cost{Messages: 2})
				require.ErrorIs(t, err, ErrRejected)
				for range 20 {
					go func() { _, _ = th.Acquire(a, Cost{Messages: 2}) }()
				}
				synctest.Wait()
				p, err := th.TryAcquire(b, one)
				require.NoError(t, err, "7 of 10 are in flight")
				p.Release(Success)
				p, err = th.Acquire(b, one)
				require.NoError(t, err, "the queue is full of what cannot go")
				p.Release(Success)
				for _, p := range append(held, other) {
					p.Release(Success)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// A tenant that leaves for good gives its share to the others, without a call
// that would notice it.
func TestATenantThatLeavesGivesItsShareBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Limit: Cost{Messages: 10}, MaxKeys: 8})
		a, b := WithKey(t.Context(), "a"), WithKey(t.Context(), "b")
		p, err := th.TryAcquire(b, one)
		require.NoError(t, err)
		p.Release(Success)
		answers := make(chan error, 10)
		for range 10 {
			go func() { _, err := th.Acquire(a, one); answers <- err }()
		}
		synctest.Wait()
		require.Len(t, answers, 7)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Len(t, answers, 10)
	})
}

// A full queue gives up its least important, newest call for a more important one.
func TestPriorityOwnsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLine(t, Config{Limit: one, Queue: QueueConfig{Length: 3}})
		l.add(t.Context(), "running", one, time.Second)
		for _, name := range []string{"b1", "b2", "b3"} {
			l.add(WithPriority(t.Context(), Background), name, one, time.Second)
		}
		l.add(t.Context(), "normal", one, time.Second)
		l.add(WithPriority(t.Context(), Critical), "critical", one, time.Second)
		l.add(WithPriority(t.Context(), Background), "late", one, time.Second)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"running", "critical", "normal", "b1"}, l.admitted())
		for _, name := range []string{"b2", "b3", "late"} {
			e, _ := l.errs[name].(*Error)
			require.NotNil(t, e, name)
			require.Equal(t, ReasonQueueFull, e.Reason, name)
		}
	})
}

func TestATinyFractionIsNotOpen(t *testing.T) {
	for _, f := range []float64{1.1e-16, 3e-11, 1e-10, 1e-9, 1e-8, 0.0001} {
		t.Run(fmt.Sprint(f), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				th := newTest(t, Config{Seed: 3})
				th.SetFraction(f)
				admitted := 0
				for range 60_000 {
					p, err := th.TryAcquire(t.Context(), one)
					if err == nil {
						p.Release(Success)
						admitted++
					}
				}
				require.InDelta(t, 60_000*f, float64(admitted), 1)
				n := paced(t, th, 100, time.Millisecond, time.Minute)
				require.LessOrEqual(t, float64(n), 1+64*60_000*f*1.1+2)
			})
		})
	}
}

func TestFractionsOfManyWorkersAreExact(t *testing.T) {
	for _, f := range []float64{0.01, 0.05, 0.3} {
		for _, workers := range []int{100, 500} {
			for _, item := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 200 * time.Millisecond} {
				t.Run(fmt.Sprint(f, workers, item), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						th := newTest(t, Config{})
						th.SetFraction(f)
						d := 300 * item / time.Duration(1)
						n := paced(t, th, workers, item, d)
						want := f * 64 * float64(d/item)
						require.InDelta(t, want, float64(n), 2+0.05*want)
					})
				})
			}
		}
	}
}

// Each tenant has buckets of its own, with exact hints, and a pause does not
// fill them faster.
func TestEachTenantHasARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{
			Limit: Cost{Messages: -1}, MaxKeys: 2, KeyRate: Rates{Messages: 1}, KeyBurst: Cost{Messages: 3},
			KeyRateOf: func(key string) (Rates, Cost) {
				if key == "gold" {
					return Rates{Messages: 100}, Cost{Messages: 10}
				}
				return Rates{Messages: 1}, Cost{Messages: 3}
			},
		})
		burst := func(key string) (n int, last *Error) {
			for {
				p, err := th.TryAcquire(WithKey(t.Context(), key), one)
				if err != nil {
					last, _ = err.(*Error)
					return n, last
				}
				p.Release(Success)
				n++
			}
		}
		n, e := burst("plain")
		require.Equal(t, 3, n)
		require.Equal(t, ReasonTenantRate, e.Reason)
		require.InDelta(t, time.Second, e.RetryAfter, 2)
		n, e = burst("gold")
		require.Equal(t, 10, n)
		require.InDelta(t, 10*time.Millisecond, e.RetryAfter, 2)
		n, _ = burst("third")
		require.Equal(t, 3, n, "the rest share one place")
		n, _ = burst("fourth")
		require.Zero(t, n)
		time.Sleep(1500 * time.Millisecond)
		_, _ = burst("gold")
		n, _ = burst("plain")
		require.Equal(t, 1, n, "forgotten while it owed, and so full again")
		began := time.Now()
		p, err := th.Acquire(WithKey(t.Context(), "plain"), one)
		require.NoError(t, err)
		p.Release(Success)
		require.InDelta(t, 500*time.Millisecond, time.Since(began), 10)
	})
}
