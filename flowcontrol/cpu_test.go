package flowcontrol

import (
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// cpuTime measures what the process used, which a busy machine inflates less
// than the wall clock.
type cpuTime int64

func usedCPU() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

func startCPU() cpuTime { return cpuTime(usedCPU()) }

func (c cpuTime) report(b *testing.B) {
	b.ReportMetric(float64(usedCPU()-int64(c))/float64(b.N), "cpu-ns/op")
}

// parallel runs op b.N times on all processors. b.RunParallel would count on a
// cache line that its goroutines may share, which costs more than what is measured.
func parallel(b *testing.B, op func()) {
	b.Helper()
	b.ReportAllocs()
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	cpu := startCPU()
	for w := range workers {
		wg.Go(func() {
			for range (b.N + w) / workers {
				op()
			}
		})
	}
	wg.Wait()
	cpu.report(b)
}
