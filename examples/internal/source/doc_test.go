package source_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/source"
)

func TestDocsNameEveryColumn(t *testing.T) {
	text, err := os.ReadFile("../../../docs/events.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## `ledgers`")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var got, want []string
	for line := range strings.Lines(section) {
		if cells := strings.SplitN(line, "|", 4); strings.HasPrefix(line, "| `") && len(cells) == 4 {
			got = append(got, strings.Join(cells[:3], "|"))
		}
	}
	for _, f := range source.Schema("").Fields() {
		want = append(want, "| `"+f.Name+"` | "+f.Type.String()+" ")
	}
	require.Equal(t, want, got)
}
