package runner

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// dieWithParent lets the kernel kill the child when the thread that started it
// ends, however that happens. The closed standard input, which works
// everywhere, is the second way. A terminal's Ctrl-C is for the parent alone: a
// child in the same group would get it too, perhaps before it ignores it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// peakMemory is the largest resident set of an ended process.
func peakMemory(state *os.ProcessState) int64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss << 10 // Linux counts KiB
	}
	return 0
}

// ownPeakMemory is the largest resident set of this process so far. What the
// kernel says of its resource usage begins with that of who started it.
func ownPeakMemory() (bytes int64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			_, _ = fmt.Sscan(kib, &bytes)
		}
	}
	return bytes << 10
}
