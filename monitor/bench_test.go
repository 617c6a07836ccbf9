package monitor_test

import (
	"testing"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
)

// BenchmarkSnapshot100 builds a snapshot of 100 services. Budget: 0.5 ms.
func BenchmarkSnapshot100(b *testing.B) {
	b.ReportAllocs()
	m := newMonitor(b, monitor.Config{Freshness: -1})
	m.Watch(monitortest.Pipeline(100))
	for b.Loop() {
		m.Snapshot()
	}
}

// BenchmarkReport100 builds a snapshot and the report of 100 services. Budget: 2 ms.
func BenchmarkReport100(b *testing.B) {
	b.ReportAllocs()
	m := newMonitor(b, monitor.Config{Freshness: -1})
	m.Watch(monitortest.Pipeline(100))
	for b.Loop() {
		m.Report()
	}
}
