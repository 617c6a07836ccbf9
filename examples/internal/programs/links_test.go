package programs_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A component links what it uses: the ledger backends are the source's, Parquet is
// the sink's. The SDK's package ingest, which extraction needs, links its own clients
// of history archives and data lakes: the processor cannot do without, the sink does.
func TestComponentsLinkWhatTheyUse(t *testing.T) {
	const examples = "github.com/withobsrvr/sluice/examples/"
	for binary, foreign := range map[string][]string{
		"stellar-arrow-source": {"parquet-go", "internal/processor", "internal/sink"},
		"ttp-arrow-processor":  {"ledgers/backends", "parquet-go", "internal/sink"},
		"arrow-analytics-sink": {
			"ledgers/backends", "stellar-sdk/ingest", "support/datastore", "clients/rpcclient",
			"aws-sdk-go", "cloud.google.com", "internal/processor",
		},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", examples+binary).Output()
		require.NoError(t, err)
		deps := string(out)
		require.Contains(t, deps, examples+"internal/component")
		for _, f := range foreign {
			for dep := range strings.Lines(deps) {
				require.NotContains(t, dep, f, "%s links it", binary)
			}
		}
	}
}
