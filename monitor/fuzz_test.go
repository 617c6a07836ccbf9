package monitor_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
)

// FuzzIDs: whatever ids come from outside, labels are short, valid and never
// empty, and the snapshot is JSON.
func FuzzIDs(f *testing.F) {
	for _, id := range []string{
		"", "a", "dns:///host:1", "\xff\xfe", "end\n", `"><script>`, "passthrough:///bufnet",
		"unix://", "://",
	} {
		f.Add(id, id)
	}
	for pad := range 5 { // a rune of four bytes across the bound
		long := strings.Repeat("a", 124+pad) + "\U0001F600b"
		f.Add(long, long)
	}
	f.Fuzz(func(t *testing.T, id, endpoint string) {
		m, err := monitor.New(monitor.Config{})
		require.NoError(t, err)
		m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
			v := d.Service(id)
			v.Local, v.Version = true, endpoint
			v.AddError(id, 1)
			v.AddConnections(endpoint, 1)
			d.Pool(endpoint).Total = 1
			d.Edge(id, endpoint)
			d.Reconnections(id, endpoint, 1)
			d.ReportsRejected(endpoint, 1)
		}))
		s := m.Snapshot()
		for _, family := range m.Families() {
			family.Collect(s, func(v monitor.Sample) {
				for i, name := range family.Labels {
					require.True(t, utf8.ValidString(v.Labels[i]))
					require.LessOrEqual(t, len(v.Labels[i]), 128)
					require.True(t, v.Labels[i] != "" || name == "version")
				}
			})
		}
		_, err = json.Marshal(s)
		require.NoError(t, err)
	})
}
