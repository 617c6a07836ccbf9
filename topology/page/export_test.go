package page_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
	"github.com/withobsrvr/sluice/topology/topologytest"
)

var writers = map[string]func(io.Writer, *topology.Graph) error{
	"json": func(w io.Writer, g *topology.Graph) error { return g.WriteJSON(w) }, "mmd": page.WriteMermaid,
	"dot": page.WriteDOT,
	"svg": page.WriteSVG, "txt": page.WriteASCII, "grafana.json": page.WriteGrafana,
}

// checkExports proves of each form what makes it safe. The parsers of dot and
// Mermaid, which run elsewhere, accept less than this, never more.
func checkExports(t *testing.T, g *topology.Graph) {
	t.Helper()
	for name, write := range writers {
		var b bytes.Buffer
		require.NoError(t, write(&b, g), name)
		require.True(t, utf8.Valid(b.Bytes()), name)
		out := b.String()
		switch name {
		case "json", "grafana.json":
			require.True(t, json.Valid(b.Bytes()), name)
		case "svg":
			d := xml.NewDecoder(&b)
			for {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err)
				if start, ok := token.(xml.StartElement); ok {
					seen := map[xml.Name]bool{} // encoding/xml lets an attribute stand twice, XML does not
					for _, a := range start.Attr {
						require.False(t, seen[a.Name], "<%s> has the attribute %s twice", start.Name.Local, a.Name.Local)
						seen[a.Name] = true
					}
					require.Contains(t, "svg style rect g path title desc text circle line", start.Name.Local)
				}
			}
		case "mmd":
			for text := range strings.Lines(out) {
				require.Regexp(t, "^(flowchart LR|  n[0-9]+[\\[(/]+\"[^\"<>`{}\\[\\]()|]*"+
					"(<br/>[^\"<>`{}\\[\\]()|]*)?\"[\\]/)]+:::[a-z]+|"+
					"  n[0-9]+ -\\.?->\\|\"[^\"<>`{}\\[\\]()|]*\"\\| n[0-9]+|  classDef [^\n]*)\n$",
					text)
			}
		case "dot":
			require.Equal(t, 0, strings.Count(unquote(out), `"`), "every quote is escaped or closes a text")
		case "txt":
			require.NotRegexp(t, `[^\n\x20-\x7e]`, out)
		}
	}
}

// unquote takes the quoted texts away, as dot reads them.
func unquote(s string) string {
	var b strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted:
			b.WriteByte(s[i])
		}
	}
	if quoted {
		b.WriteByte('"')
	}
	return b.String()
}

func TestHostileIDsAreSafeInEveryExport(t *testing.T) {
	checkExports(t, topologytest.Hostile(topologytest.HostileIDs...))
	checkExports(t, &topology.Graph{})
	checkExports(t, &topology.Graph{Nodes: []topology.Node{{ID: "a"}}})
	hostile := func() *topology.Graph { return topologytest.Hostile(topologytest.HostileIDs...) }
	p := newPage(t, topology.SourceFunc(hostile), page.Config{})
	html := get(p, "/").Body.String()
	require.NotContains(t, html, "<script>alert")
	require.NotContains(t, html, "<b>bold")
	require.Equal(t, 1, strings.Count(html, "<script"))
	require.Equal(t, 200, get(p, "/frame").Code)
}

func FuzzExports(f *testing.F) {
	for i := 0; i+1 < len(topologytest.HostileIDs); i++ {
		f.Add(topologytest.HostileIDs[i], topologytest.HostileIDs[i+1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if a == "" || b == "" || len(a)+len(b) > 2000 {
			return
		}
		checkExports(t, topologytest.Hostile(a, b, "plain"))
	})
}

func FuzzReadJSON(f *testing.F) {
	f.Add([]byte(`{"schema":1,"nodes":[{"id":"a","upstreams":["a","b"],"load":-1}],` +
		`"edges":[{"to":"c","endpoint":"x"},{"from":"c","to":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := topology.ReadJSON(bytes.NewReader(data))
		if err != nil {
			return
		}
		require.Equal(t, g, g.Normalize(), "what was read is normalized")
		checkExports(t, g)
	})
}

func TestDotAcceptsTheExport(t *testing.T) {
	dot := testenv.Require(t, "dot", "graphviz")
	for name, g := range map[string]*topology.Graph{
		"pipeline": topologytest.NewScript().Topology(), "hostile": topologytest.Hostile(topologytest.HostileIDs...),
		"empty": {},
	} {
		var in, complaints bytes.Buffer
		require.NoError(t, page.WriteDOT(&in, g))
		cmd := exec.Command(dot, "-Tsvg")
		cmd.Stdin, cmd.Stderr = &in, &complaints
		out, err := cmd.Output()
		require.NoError(t, err, "%s: %s", name, complaints.String())
		require.Equal(t, len(g.Normalize().Nodes), strings.Count(string(out), `class="node"`), name)
		require.NotContains(t, complaints.String(), "rror")
	}
}

// golden graphs have no clock in them.
func golden() *topology.Graph {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	healthy := topology.Status{
		Health: topology.HealthHealthy, Load: 0.31, InFlight: 20, MaxInFlight: 64, OutRate: 12400,
		LastHeartbeat: at,
	}
	full := healthy
	full.Load, full.InFlight, full.QueueDepth = 0.92, 59, 117
	throttled := healthy
	throttled.Fraction = 0.46
	return &topology.Graph{
		Name: "token transfers", Time: at,
		Pipeline: topology.Pipeline{
			Throughput: 12400, Latency: 42 * time.Millisecond, Load: 0.92, Fraction: 0.46,
			Active: true, Activations: 1,
		},
		Nodes: []topology.Node{
			{
				ID: "arrow-analytics-sink", Kind: topology.KindSink, Endpoint: "localhost:8817",
				InputEventTypes: []string{"ttp_events"}, Status: full,
			},
			{
				ID: "stellar-arrow-source", Kind: topology.KindSource, Endpoint: "localhost:8815",
				OutputEventTypes: []string{"ledgers"}, Status: throttled,
			},
			{
				ID: "ttp-arrow-processor", Kind: topology.KindProcessor, Endpoint: "localhost:8816",
				InputEventTypes: []string{"ledgers"}, OutputEventTypes: []string{"ttp_events"}, Status: healthy,
			},
		},
		Edges: []topology.Edge{
			{
				To: "ttp-arrow-processor", Endpoint: "localhost:8815", Origin: topology.OriginObserved,
				State: topology.StateConnected, Throughput: 11, Blocked: 0.43, LastConnected: at,
			},
			{
				To: "arrow-analytics-sink", Endpoint: "localhost:8816", Origin: topology.OriginObserved,
				State: topology.StateConnected, Throughput: 12400, Blocked: 0.61, LastConnected: at,
			},
		},
	}
}

// TestGolden compares each export with testdata. UPDATE=1 writes them anew.
func TestGolden(t *testing.T) {
	for name, write := range writers {
		var b bytes.Buffer
		require.NoError(t, write(&b, golden()))
		file := "testdata/pipeline." + name
		if os.Getenv("UPDATE") != "" {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(file, b.Bytes(), 0o644))
			continue
		}
		want, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(want), b.String(), name)
	}
}
