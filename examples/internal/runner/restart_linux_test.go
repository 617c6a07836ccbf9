package runner_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/runner"
)

// childOf is the process of ours that runs the role below out, or 0.
func childOf(t *testing.T, role component.Role) int {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread may have ended
		for pid := range strings.FieldsSeq(string(text)) {
			environment, _ := os.ReadFile("/proc/" + pid + "/environ")
			if bytes.Contains(environment, []byte(runner.RoleVariable+"="+string(role)+"\x00")) {
				n, err := strconv.Atoi(pid)
				require.NoError(t, err)
				return n
			}
		}
	}
	return 0
}

// Whichever component is killed, the pipeline starts it again, on the ports
// that the others know, and nothing is lost.
func TestAComponentThatDiesIsStartedAgain(t *testing.T) {
	tr := start(t, t.TempDir(), programs.All(), []string{"STAGE_MAX_BATCHES=4"}, "-ledgers=40", "-sink-delay=20ms")
	for _, role := range component.Roles {
		tr.said(t, string(component.RoleSink)+" at ")
		pid := childOf(t, role)
		require.NotZero(t, pid)
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		tr.said(t, fmt.Sprintf("%s ended: signal: killed: starting it again, 1 of at most 5 times", role))
		tr.until(
			t,
			string(role)+" is there again",
			func() bool { again := childOf(t, role); return again != 0 && again != pid },
		)
	}
	requireTruthOfTwo(t, tr.wait(t), 20)
}
