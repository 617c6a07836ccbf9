package runner_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/runner"
)

// What a child is told by its standard input, on every system: the word drains
// it, the end without the word means that the parent is gone.
func TestChildFollowsItsStandardInput(t *testing.T) {
	binary, err := os.Executable()
	require.NoError(t, err)
	for _, tc := range []struct {
		name, say string
		exit      int
	}{
		{"drained", "drain\n", 0},
		{"parent gone", "", 1},
		{"parent gone in the middle of the word", "dra", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command(binary)
			cmd.Env = append(
				os.Environ(),
				runner.RoleVariable+"="+string(component.RoleSource),
				"FLIGHT_PORT=0",
				"HEALTH_PORT=0",
				"LOG_LEVEL=error",
			)
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(stdout).ReadBytes('\n')
			require.NoError(t, err)
			var at component.Addresses
			require.NoError(t, json.Unmarshal(line, &at))
			require.NotEmpty(t, at.Flight)
			_, err = stdin.Write([]byte(tc.say))
			require.NoError(t, err)
			if tc.exit != 0 {
				require.NoError(t, stdin.Close())
			}
			_ = cmd.Wait()
			require.Equal(t, tc.exit, cmd.ProcessState.ExitCode())
		})
	}
}
