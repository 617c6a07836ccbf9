package runner

import (
	"os"
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel kill the child when the thread that started it
// ends, however that happens. The closed standard input, which works
// everywhere, is the second way.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// peakMemory is the largest resident set of an ended process.
func peakMemory(state *os.ProcessState) int64 {
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss << 10 // Linux counts KiB
	}
	return 0
}
