//go:build unix

package connpool

import (
	"syscall"
	"time"
)

// cpuTime is what the process has used of all cores: on a machine with other
// work it says more than the clock does.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
