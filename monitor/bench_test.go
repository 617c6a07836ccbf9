//go:build unix

package monitor_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/withobsrvr/sluice/monitor"
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

func benchmark(b *testing.B, of func(*monitor.Monitor)) {
	b.ReportAllocs()
	m := newMonitor(b, monitor.Config{Freshness: -1})
	m.Watch(monitortest.Pipeline(100))
	of(m)
	began := cpuTime()
	for b.Loop() {
		of(m)
	}
	b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkSnapshot100 builds a snapshot of 100 services, its source included.
// Budget: 0.5 ms.
func BenchmarkSnapshot100(b *testing.B) { benchmark(b, func(m *monitor.Monitor) { m.Snapshot() }) }
