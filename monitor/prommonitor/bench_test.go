//go:build unix

package prommonitor_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
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

func benchmarkScrape(b *testing.B, services int) {
	m := newMonitor(b, monitor.Config{Freshness: -1}, monitortest.Pipeline(services))
	registry := prometheus.NewRegistry()
	registry.MustRegister(prommonitor.NewCollector(m))
	n, err := testutil.GatherAndCount(registry)
	require.NoError(b, err)
	b.ReportAllocs()
	began := cpuTime()
	for b.Loop() {
		if _, err := registry.Gather(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime()-began).Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/series")
	b.ReportMetric(float64(n), "series")
}

// BenchmarkScrape… builds a snapshot and gathers it. Budget: 2 µs of CPU a series.
func BenchmarkScrape10(b *testing.B)   { benchmarkScrape(b, 10) }
func BenchmarkScrape100(b *testing.B)  { benchmarkScrape(b, 100) }
func BenchmarkScrape1000(b *testing.B) { benchmarkScrape(b, 1000) }
