package flowcontrol

import (
	"context"
	"fmt"
	"runtime"
	"testing"
)

func benchTry(b *testing.B, cfg Config, fraction float64) {
	th := newTest(b, cfg)
	th.SetFraction(fraction)
	ctx := context.Background()
	parallel(b, func() {
		p, _ := th.TryAcquire(ctx, one)
		p.Release(Success)
	})
}

func BenchmarkHotLimit(b *testing.B) {
	benchTry(b, Config{WatchdogAge: -1}, 1)
}

func BenchmarkHotLimitWatched(b *testing.B) { benchTry(b, Config{}, 1) }

func BenchmarkHotLimitTokens(b *testing.B) {
	benchTry(b, Config{Rate: Rates{Messages: 1e9}}, 1)
}

func BenchmarkHotLimitTokensFraction(b *testing.B) {
	benchTry(b, Config{Rate: Rates{Messages: 1e9}}, 0.999999)
}

func BenchmarkHotLimitTokensByTheClock(b *testing.B) {
	benchTry(b, Config{Rate: Rates{Messages: 99_999}, Burst: Cost{Messages: 1 << 50}}, 0.999999)
}

func BenchmarkHotAllWeights(b *testing.B) {
	th := newTest(b, Config{Limit: Cost{64, 1 << 20, 1 << 30}})
	ctx := context.Background()
	parallel(b, func() {
		p, _ := th.TryAcquire(ctx, Cost{1, 100, 10000})
		p.Release(Success)
	})
}

func BenchmarkHotAdaptive(b *testing.B) {
	benchTry(b, Config{Adaptive: AdaptiveConfig{Mode: AdaptiveOn}}, 1)
}

func BenchmarkHotOff(b *testing.B) { benchTry(b, Config{Mode: Off}, 1) }

func BenchmarkHotRejection(b *testing.B) {
	th := newTest(b, Config{Limit: one})
	_, _ = th.TryAcquire(context.Background(), one)
	b.ReportAllocs()
	cpu := startCPU()
	for b.Loop() {
		_, _ = th.TryAcquire(context.Background(), one)
	}
	cpu.report(b)
}

// BenchmarkRelease is one release and the admission that follows it, while so
// many calls wait that it has to be independent of their number.
func BenchmarkRelease(b *testing.B) {
	for _, waiting := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprint(waiting), func(b *testing.B) {
			th := newTest(b, Config{Limit: one, Queue: QueueConfig{Length: waiting}})
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			p, err := th.TryAcquire(ctx, one)
			if err != nil {
				b.Fatal(err)
			}
			turns := make(chan Permit)
			for range waiting {
				go func() {
					for {
						p, err := th.Acquire(ctx, one)
						if err != nil {
							return
						}
						turns <- p
					}
				}()
			}
			for th.Stats().Waiting < int64(waiting) {
				runtime.Gosched()
			}
			b.ReportAllocs()
			cpu := startCPU()
			for b.Loop() {
				p.Release(Success)
				p = <-turns
			}
			cpu.report(b)
		})
	}
}
