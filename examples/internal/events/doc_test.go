package events_test

import (
	"os"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// columnsOf renders a schema as the tables of docs/events.md do.
func columnsOf(schema *arrow.Schema) []string {
	var out []string
	for _, f := range schema.Fields() {
		line := "| `" + f.Name + "` | " + f.Type.String()
		if f.Nullable {
			line += ", null"
		}
		out = append(out, line+" |")
	}
	return out
}

// documented returns the beginnings of the table rows under a heading.
func documented(t *testing.T, heading string) []string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/events.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), heading)
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for line := range strings.Lines(section) {
		if cells := strings.SplitN(line, "|", 4); strings.HasPrefix(line, "| `") && len(cells) == 4 {
			out = append(out, strings.Join(cells[:3], "|")+"|")
		}
	}
	return out
}

func TestDocsNameEveryColumn(t *testing.T) {
	require.Equal(t, columnsOf(events.Schema), documented(t, "\n## `ttp_events`"))
}
