package runner_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// No process of the pipeline needs more than 300 MiB, with a sink that is fast
// and with one that is slow, which is when every stage is full. The program is
// built as its users build it: the race detector would multiply what it holds.
func TestMemoryIsBounded(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "pipeline")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", binary, "./pipeline")
	build.Dir = filepath.Join("..", "..")
	text, err := build.CombinedOutput()
	require.NoError(t, err, "%s", text)
	for name, flags := range map[string][]string{
		"fast sink": {"-ledgers=200"},
		"slow sink": {"-ledgers=120", "-sink-delay=100ms"},
	} {
		t.Run(name, func(t *testing.T) {
			run := exec.CommandContext(t.Context(), binary, append(flags, "-ports=auto", "-out="+t.TempDir())...)
			run.Stderr = os.Stderr
			text, err := run.Output()
			require.NoError(t, err, "%s", text)
			line := regexp.MustCompile(`(?m)^  memory .*$`).FindString(string(text))
			t.Log(line)
			peaks := regexp.MustCompile(`(control|source|processor|sink|this process) (\d+)`).FindAllStringSubmatch(line, -1)
			require.Len(t, peaks, 5, "%s", text)
			for _, peak := range peaks {
				mib, err := strconv.Atoi(peak[2])
				require.NoError(t, err)
				require.Positive(t, mib, peak[1])
				require.Less(t, mib, 300, peak[1])
			}
		})
	}
}
