//go:build unix

package health_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/monitortest"
)

// cpuTime is what the process has used, garbage collection included, whatever
// else the machine does.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func benchmark(b *testing.B, of func(*health.Health)) {
	b.ReportAllocs()
	m, err := monitor.New(monitor.Config{Freshness: -1})
	if err != nil {
		b.Fatal(err)
	}
	m.Watch(monitortest.Pipeline(100))
	h := newHealth(b, m, health.Config{})
	of(h)
	began := cpuTime()
	for b.Loop() {
		of(h)
	}
	b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkReport100 builds a snapshot and the report of 100 services. Budget: 2 ms.
func BenchmarkReport100(b *testing.B) { benchmark(b, func(h *health.Health) { h.Report() }) }
