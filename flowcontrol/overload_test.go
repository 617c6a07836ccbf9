package flowcontrol

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// The overload harness in virtual time: a server whose handler holds one of 8
// slots for 20 ms, open-loop Poisson arrivals, a deadline of 200 ms each.
// Goodput is the answers within the deadline as a share of what was possible.
const (
	simSlots    = 8
	simService  = 20 * time.Millisecond
	simDeadline = 200 * time.Millisecond
	simCapacity = 400.0
)

type simPhase struct {
	d       time.Duration
	load    float64 // times the nominal capacity
	service time.Duration
	shares  []float64 // of the clients; nil = one client
}

type simAnswer struct {
	at, took time.Duration // at = arrival
	ok       bool
	client   int
	admitted bool
}

// simulate runs the phases and returns every request's answer.
func simulate(t *testing.T, cfg Config, verb string, seed uint64, phases ...simPhase) (all []simAnswer, th *Throttler) {
	th = newTest(t, cfg)
	r := rand.New(rand.NewPCG(seed, 99))
	slots := make(chan struct{}, simSlots)
	answers := make(chan simAnswer, 1<<17)
	began := time.Now()
	end := time.Duration(0)
	service := simService
	for _, ph := range phases {
		end += ph.d
		service = ph.service
		if service == 0 {
			service = simService
		}
		next := time.Since(began)
		for {
			next += time.Duration(r.ExpFloat64() / (ph.load * simCapacity) * 1e9)
			if next >= end {
				time.Sleep(end - time.Since(began))
				break
			}
			time.Sleep(next - time.Since(began))
			client := 0
			if ph.shares != nil {
				x := r.Float64()
				for ; client < len(ph.shares)-1 && x >= ph.shares[client]; client++ {
					x -= ph.shares[client]
				}
			}
			hold := service
			go func() {
				a := simAnswer{at: time.Since(began), client: client}
				ctx, cancel := context.WithTimeout(t.Context(), simDeadline)
				defer cancel()
				if cfg.MaxKeys > 0 {
					ctx = WithKey(ctx, string(rune('a'+client)))
				}
				var p Permit
				var err error
				switch verb {
				case "try":
					p, err = th.TryAcquire(ctx, one)
				case "acquire":
					p, err = th.Acquire(ctx, one)
				}
				if err == nil {
					a.admitted = true
					o := Dropped
					select {
					case slots <- struct{}{}:
						time.Sleep(hold)
						<-slots
						a.took = time.Since(began) - a.at
						if a.ok = a.took <= simDeadline; a.ok {
							o = Success
						}
					case <-ctx.Done():
						a.took = simDeadline
					}
					p.Release(o)
				}
				answers <- a
			}()
		}
	}
	time.Sleep(time.Second)
	synctest.Wait()
	close(answers)
	for a := range answers {
		all = append(all, a)
	}
	return all, th
}

// goodput and p99 of the requests that arrived in from..to.
func measure(all []simAnswer, from, to time.Duration, possible float64) (goodput float64, p99 time.Duration) {
	var took []time.Duration
	good := 0
	offered := 0
	for _, a := range all {
		if a.at < from || a.at >= to {
			continue
		}
		offered++
		if a.ok {
			good++
		}
		if a.admitted {
			took = append(took, a.took)
		}
	}
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return float64(
		good,
	) / min(
		float64(offered),
		possible*(to-from).Seconds(),
	), took[int(math.Ceil(0.99*float64(len(took))))-1]
}

var advised = Config{Adaptive: AdaptiveConfig{Mode: AdaptiveOn}}

// The bars are for the medians of three seeds.
func TestOverloadKeepsGoodputAndLatency(t *testing.T) {
	simulation(t)
	for _, verb := range []string{"try", "acquire"} {
		for _, load := range []float64{0.5, 1, 1.5, 2, 4} {
			t.Run(fmt.Sprint(verb, load), func(t *testing.T) {
				var goodputs []float64
				var p99s []time.Duration
				for seed := range uint64(3) {
					synctest.Test(t, func(t *testing.T) {
						all, th := simulate(t, advised, verb, seed, simPhase{d: 15 * time.Second, load: load})
						goodput, p99 := measure(all, 5*time.Second, 15*time.Second, simCapacity)
						t.Logf(
							"%s at %gx: goodput %.3f, p99 %v, limit %d",
							verb,
							load,
							goodput,
							p99.Round(time.Millisecond),
							th.Limit().Messages,
						)
						require.Zero(t, th.InFlight())
						goodputs, p99s = append(goodputs, goodput), append(p99s, p99)
					})
				}
				slices.Sort(goodputs)
				slices.Sort(p99s)
				switch {
				case load < 1:
					require.GreaterOrEqual(t, goodputs[1], 0.99)
				case load == 1:
					require.GreaterOrEqual(t, goodputs[1], 0.95)
				default:
					require.GreaterOrEqual(t, goodputs[0], 0.96)
					require.LessOrEqual(t, p99s[1], 65*time.Millisecond)
				}
			})
		}
		t.Run(verb+" after a minute", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, _ := simulate(t, advised, verb, 1, simPhase{d: 70 * time.Second, load: 2})
				goodput, p99 := measure(all, 60*time.Second, 70*time.Second, simCapacity)
				t.Logf("%s at 2x after 60 s: goodput %.3f, p99 %v", verb, goodput, p99.Round(time.Millisecond))
				require.GreaterOrEqual(t, goodput, 0.96)
				require.LessOrEqual(t, p99, 65*time.Millisecond)
			})
		})
	}
}

func TestOverloadWhileTheServiceTimeDoubles(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			all, _ := simulate(t, advised, "try", seed, simPhase{d: 8 * time.Second, load: 1.2},
				simPhase{d: 8 * time.Second, load: 1.2, service: 2 * simService}, simPhase{d: 8 * time.Second, load: 1.2})
			in, p99 := measure(all, 8*time.Second, 16*time.Second, simCapacity/2)
			first, _ := measure(all, 8*time.Second, 9*time.Second, simCapacity/2)
			after, _ := measure(all, 16*time.Second, 17*time.Second, simCapacity)
			t.Logf(
				"goodput %.3f, p99 %v, first second %.3f, first second after %.3f",
				in,
				p99.Round(time.Millisecond),
				first,
				after,
			)
			require.GreaterOrEqual(t, in, 0.95)
			require.LessOrEqual(t, p99, 120*time.Millisecond)
			require.GreaterOrEqual(t, first, 0.93)
			require.GreaterOrEqual(t, after, 0.93)
		})
	}
}

func TestOverloadEndsWithTheBurst(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			all, _ := simulate(
				t,
				advised,
				"try",
				seed,
				simPhase{d: 5 * time.Second, load: 0.7},
				simPhase{d: 6 * time.Second, load: 3},
				simPhase{d: 5 * time.Second, load: 0.7},
			)
			for at := 11*time.Second + 100*time.Millisecond; at < 15*time.Second; at += 100 * time.Millisecond {
				goodput, _ := measure(all, at, at+100*time.Millisecond, 2*simCapacity)
				require.GreaterOrEqual(t, goodput, 0.8, "at %v", at)
			}
			goodput, p99 := measure(all, 11*time.Second+100*time.Millisecond, 16*time.Second, simCapacity)
			t.Logf("from 100 ms after the burst: goodput %.3f, p99 %v", goodput, p99.Round(time.Millisecond))
			require.GreaterOrEqual(t, goodput, 0.99)
		})
	}
}

func TestOverloadByOneGreedyClientIsFair(t *testing.T) {
	simulation(t)
	for _, verb := range []string{"try", "acquire"} {
		for seed := range uint64(3) {
			synctest.Test(t, func(t *testing.T) {
				cfg := advised
				cfg.MaxKeys = 16
				all, _ := simulate(
					t,
					cfg,
					verb,
					seed,
					simPhase{d: 15 * time.Second, load: 3, shares: []float64{0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3}},
				)
				var good [4]float64
				for _, a := range all {
					if a.ok && a.at >= 5*time.Second {
						good[a.client]++
					}
				}
				// Each client's answers as a part of its max-min fair share.
				fair := [4]float64{0.4, 0.2, 0.2, 0.2}
				var sum, squares float64
				for i, n := range good {
					x := n / (fair[i] * simCapacity * 10)
					sum += x
					squares += x * x
				}
				jain := sum * sum / (4 * squares)
				goodput, p99 := measure(all, 5*time.Second, 15*time.Second, simCapacity)
				t.Logf("%s: Jain %.3f of %v, goodput %.3f, p99 %v", verb, jain, good, goodput, p99.Round(time.Millisecond))
				require.GreaterOrEqual(t, jain, 0.95)
				require.GreaterOrEqual(t, goodput, 0.95)
			})
		}
	}
}

// Settings that are wrong by an order of magnitude and more, and that the
// configuration accepts: the service stays up.
func TestOverloadCollapsesAtNoSetting(t *testing.T) {
	simulation(t)
	for name, cfg := range map[string]Config{
		"limit of 16 times the slots": {Limit: Cost{Messages: 128}},
		"no useful limit at all":      {Limit: Cost{Messages: 100_000}},
		"limit of 1":                  {Limit: one},
		"long waits in order":         {Limit: Cost{Messages: 128}, Queue: QueueConfig{InOrder: true, Length: 100_000}},
		"a minimum far above":         {Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Min: 500, Max: 1000}},
		"a start far above":           {Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Start: 100_000, Max: 100_000}},
		"tolerance at its end":        {Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Tolerance: 1.99}},
		"tolerance at its other end":  {Adaptive: AdaptiveConfig{Mode: AdaptiveOn, Tolerance: 1}},
		"a queue of a second": {
			Adaptive: AdaptiveConfig{Mode: AdaptiveOn},
			Queue:    QueueConfig{Target: time.Second, Interval: time.Second},
		},
		"a queue of an hour": {
			Limit: Cost{Messages: 16},
			Queue: QueueConfig{Target: time.Hour, Interval: time.Hour, Length: 100_000},
		},
	} {
		for _, verb := range []string{"try", "acquire"} {
			t.Run(name+"/"+verb, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					all, th := simulate(t, cfg, verb, 1, simPhase{d: 15 * time.Second, load: 4})
					goodput, p99 := measure(all, 5*time.Second, 15*time.Second, simCapacity)
					t.Logf(
						"%s, %s at 4x: goodput %.3f, p99 %v, limit %d",
						name,
						verb,
						goodput,
						p99.Round(time.Millisecond),
						th.Limit().Messages,
					)
					least := 0.7
					if cfg.Limit == one {
						least = 0.12 // one slot of eight, and that one busy
					}
					require.GreaterOrEqual(t, goodput, least)
				})
			})
		}
	}
}
