package limiters

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// measured runs op on all processors and reports the processor time of one,
// which a busy machine inflates less than the wall clock. b.RunParallel would
// count on a cache line that its goroutines may share, which costs more than
// what is measured.
func measured(b *testing.B, op func()) {
	b.Helper()
	b.ReportAllocs()
	used := func() int64 {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		return u.Utime.Nano() + u.Stime.Nano()
	}
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	began := used()
	for w := range workers {
		wg.Go(func() {
			for range (b.N + w) / workers {
				op()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(used()-began)/float64(b.N), "cpu-ns/op")
}

var message = flowcontrol.Cost{Messages: 1}

func throttler(b *testing.B, cfg flowcontrol.Config) func() {
	b.Helper()
	t, err := flowcontrol.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	return func() {
		p, _ := t.TryAcquire(ctx, message)
		p.Release(flowcontrol.Success)
	}
}

func BenchmarkHotSluiceLimit(b *testing.B) {
	measured(b, throttler(b, flowcontrol.Config{}))
}

func BenchmarkHotSluiceLimitTokensFraction(b *testing.B) {
	t, err := flowcontrol.New(flowcontrol.Config{Rate: flowcontrol.Rates{Messages: 1e9}})
	if err != nil {
		b.Fatal(err)
	}
	t.SetFraction(0.999999)
	ctx := context.Background()
	measured(b, func() {
		p, _ := t.TryAcquire(ctx, message)
		p.Release(flowcontrol.Success)
	})
}

func BenchmarkHotSluiceAdaptive(b *testing.B) {
	measured(b, throttler(b, flowcontrol.Config{Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOn}}))
}

func BenchmarkHotSluiceOff(b *testing.B) {
	measured(b, throttler(b, flowcontrol.Config{Mode: flowcontrol.Off}))
}

func BenchmarkPeerSemaphore(b *testing.B) {
	s := semaphore.NewWeighted(64)
	measured(b, func() {
		if s.TryAcquire(1) {
			s.Release(1)
		}
	})
}

func BenchmarkPeerRateAndSemaphore(b *testing.B) {
	s, l := semaphore.NewWeighted(64), rate.NewLimiter(1e9, 1e8)
	measured(b, func() {
		if l.Allow() && s.TryAcquire(1) {
			s.Release(1)
		}
	})
}

func BenchmarkPeerFailsafeAdaptive(b *testing.B) {
	l := adaptivelimiter.NewBuilder[any]().WithLimits(1, 200, 20).WithRecentWindow(time.Second, 30*time.Second, 50).Build()
	measured(b, func() {
		if p, ok := l.TryAcquirePermit(); ok {
			p.Record()
		}
	})
}
