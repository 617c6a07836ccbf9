package flowcontrol

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSheddingIsExactAtAnyFraction(t *testing.T) {
	for _, f := range []float64{0.001, 0.005, 0.29, 0.5, 0.57, 0.58, 0.7, 0.9, 0.999} {
		for _, seed := range []uint64{1, 12345, 1 << 63, 0xdeadbeefcafe} {
			var s sampler
			s.state = seed
			s.set(f)
			admitted := 0
			for range 1000 {
				if s.admit() {
					admitted++
				}
			}
			require.InDelta(t, 1000*f, float64(admitted), 2, "fraction %g, seed %d", f, seed)
			for range 999_000 {
				if s.admit() {
					admitted++
				}
			}
			require.InDelta(t, 1e6*f, float64(admitted), 4, "fraction %g, seed %d", f, seed)
		}
	}
}

func TestNoClassStarvesOnPeriodicTraffic(t *testing.T) {
	for _, f := range []float64{0.5, 0.75, 0.9} {
		for _, period := range []int{2, 3, 4, 5, 10, 100} {
			t.Run(fmt.Sprint(f, period), func(t *testing.T) {
				var s sampler
				s.state = 7
				s.set(f)
				admitted := make([]int, period)
				const rounds = 2000
				for range rounds {
					for class := range period {
						if s.admit() {
							admitted[class]++
						}
					}
				}
				for class, n := range admitted {
					require.InDelta(t, f, float64(n)/rounds, 0.05, "class %d of %d", class, period)
				}
			})
		}
	}
}

func TestSheddingRepeatsUnderASetSeed(t *testing.T) {
	run := func(seed uint64) (all []bool) {
		th := newTest(t, Config{Seed: seed})
		th.SetFraction(0.29)
		for range 200 {
			p, err := th.TryAcquire(t.Context(), one)
			p.Release(Success)
			all = append(all, err == nil)
		}
		require.InDelta(t, 142, float64(th.Stats().Rejected.Of(ReasonFraction)), 2)
		return all
	}
	require.Equal(t, run(42), run(42))
	require.NotEqual(t, run(42), run(43))
}
