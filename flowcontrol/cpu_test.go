package flowcontrol

import (
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
