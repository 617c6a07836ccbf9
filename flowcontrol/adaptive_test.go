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

// adapted runs Poisson arrivals against c slots with log-normal service, and returns
// the share of the achievable goodput, the 99th percentile of the latency and the
// limits over time, all after warm.
func adapted(
	t *testing.T,
	cfg AdaptiveConfig,
	seed uint64,
	c int,
	mean time.Duration,
	sigma, load float64,
	warm, d time.Duration,
	slower float64,
) (goodput, rejected float64, p99 time.Duration, limits []int64) {
	cfg.Mode = AdaptiveOn
	th := newTest(t, Config{Adaptive: cfg})
	r := rand.New(rand.NewPCG(seed, 5))
	slots := make(chan struct{}, c)
	type end struct{ at, took time.Duration }
	ends := make(chan end, 1<<20)
	began := time.Now()
	capacity := float64(c) / mean.Seconds()
	offered, missed := 0, 0
	next := time.Duration(0)
	sample := warm
	for {
		next += time.Duration(r.ExpFloat64() / (load * capacity) * 1e9)
		if next >= warm+d {
			break
		}
		time.Sleep(next - time.Since(began))
		if next > sample {
			limits = append(limits, th.Limit().Messages)
			sample += time.Second
		}
		p, err := th.TryAcquire(t.Context(), one)
		if next >= warm {
			offered++
			if err != nil {
				missed++
			}
		}
		if err != nil {
			continue
		}
		service := time.Duration(float64(mean) * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2))
		if next >= warm/2 {
			service = time.Duration(float64(service) * slower)
		}
		arrived := next
		go func() {
			slots <- struct{}{}
			time.Sleep(service)
			<-slots
			p.Release(Success)
			if arrived >= warm {
				ends <- end{time.Since(began), time.Since(began) - arrived}
			}
		}()
	}
	time.Sleep(10 * time.Second)
	synctest.Wait()
	close(ends)
	var took []time.Duration
	good := 0
	for e := range ends {
		took = append(took, e.took)
		good++
	}
	slices.Sort(took)
	possible := min(float64(offered), capacity/slower*d.Seconds())
	require.Zero(t, th.InFlight())
	return float64(good) / possible, float64(missed) / float64(offered), took[len(took)*99/100], limits
}

func TestAdaptiveLimitHoldsGoodputAndLatency(t *testing.T) {
	simulation(t)
	for _, row := range []struct {
		name         string
		c            int
		sigma        float64
		load, slower float64
		goodput      float64
		p99          time.Duration
	}{
		{"8 slots, 1.5x", 8, 0.4, 1.5, 1, 0.97, 45 * time.Millisecond},
		{"8 slots, 2x slower", 8, 0.4, 1.5, 2, 0.97, 110 * time.Millisecond},
		{"8 slots, heavy tail, 1.5x", 8, 1.2, 1.5, 1, 0.90, 130 * time.Millisecond},
		{"8 slots, heavy tail, 2x slower", 8, 1.2, 1.5, 2, 0.90, 260 * time.Millisecond},
		{"64 slots, half load", 64, 0.4, 0.5, 1, 0.99, 30 * time.Millisecond},
		{"64 slots, 1.5x", 64, 0.4, 1.5, 1, 0.95, 45 * time.Millisecond},
		{"64 slots, 2x slower", 64, 0.4, 1.5, 2, 0.90, 90 * time.Millisecond},
	} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprint(row.name, " ", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					goodput, rejected, p99, limits := adapted(
						t,
						AdaptiveConfig{},
						seed,
						row.c,
						10*time.Millisecond,
						row.sigma,
						row.load,
						10*time.Second,
						10*time.Second,
						row.slower,
					)
					t.Logf(
						"%s: goodput %.3f, rejected %.3f, p99 %v, limit %d..%d",
						row.name,
						goodput,
						rejected,
						p99.Round(time.Millisecond),
						slices.Min(limits),
						slices.Max(limits),
					)
					require.GreaterOrEqual(t, goodput, row.goodput)
					require.LessOrEqual(t, p99, row.p99)
				})
			})
		}
	}
}

func TestAdaptiveLimitDoesNotDriftOverHalfAnHourOfOverload(t *testing.T) {
	simulation(t)
	synctest.Test(t, func(t *testing.T) {
		_, _, _, limits := adapted(t, AdaptiveConfig{}, 3, 8, 50*time.Millisecond, 0.4, 1.5, time.Minute, 29*time.Minute, 1)
		average := func(l []int64) float64 {
			sum := int64(0)
			for _, n := range l {
				sum += n
			}
			return float64(sum) / float64(len(l))
		}
		first, last := average(limits[:120]), average(limits[len(limits)-120:])
		t.Logf(
			"the limit was %.1f in the second and third minute and %.1f in the last two (%d..%d)",
			first,
			last,
			slices.Min(limits),
			slices.Max(limits),
		)
		require.InDelta(t, first, last, 0.25*first)
		require.LessOrEqual(t, slices.Max(limits), int64(40))
	})
}

func TestIdleStreamsOnAnIdleServerAreAllAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := newTest(t, Config{Adaptive: AdaptiveConfig{Mode: AdaptiveOn}})
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 240)
		for i := range 240 {
			go func() {
				// A stream costs nothing while it is idle: each message is admitted.
				time.Sleep(time.Duration(i) * 250 * time.Millisecond)
				for ctx.Err() == nil {
					p, err := th.TryAcquire(ctx, one)
					if err != nil {
						failed <- err
						return
					}
					time.Sleep(10 * time.Millisecond)
					p.Release(Success)
					time.Sleep(time.Minute)
				}
			}()
		}
		time.Sleep(24 * time.Minute)
		cancel()
		require.Empty(t, failed)
		require.Equal(t, uint64(0), th.Stats().Rejected.Total())
		time.Sleep(2 * time.Minute)
	})
}

// A window in which most work is dropped halves the limit once; ignored work
// and a few drops do nothing.
func TestDroppedWorkLowersTheLimitOnceAWindowAndIgnoredNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []AdaptiveMode{AdaptiveOn, AdaptiveGuard} {
			th := newTest(t, Config{
				Limit:    Cost{Messages: 100},
				Adaptive: AdaptiveConfig{Mode: mode, Start: 100},
			})
			generation := func(o Outcome) {
				held := make([]Permit, th.Limit().Messages)
				for i := range held {
					held[i], _ = th.TryAcquire(t.Context(), one)
				}
				time.Sleep(10 * time.Millisecond)
				for _, p := range held {
					p.Release(o)
				}
			}
			for range 1000 {
				generation(Ignored)
			}
			require.Equal(t, int64(100), th.Limit().Messages)
			for range 10 {
				generation(Dropped)
			}
			require.Equal(t, int64(100), th.Limit().Messages)
			generation(Dropped)
			require.Equal(t, int64(50), th.Limit().Messages)
		}
	})
}
