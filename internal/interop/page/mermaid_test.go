package page

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
	"github.com/withobsrvr/sluice/topology/topologytest"
)

// TestMermaidAcceptsTheExport runs Mermaid's own parser over the export: each
// hostile id alone and all of them together, the pipeline, and nothing. It must
// find as many nodes and edges as the graph has.
func TestMermaidAcceptsTheExport(t *testing.T) {
	node, npm := testenv.Require(t, "node", "nodejs"), testenv.Require(t, "npm", "npm")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "check.mjs"} {
		b, err := os.ReadFile(filepath.Join("mermaid", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
	}
	install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	out, err := install.CombinedOutput()
	require.NoError(t, err, "%s", out)

	graphs := []*topology.Graph{
		topologytest.NewScript().Topology(),
		topologytest.Hostile(topologytest.HostileIDs...),
		fan(),
		{},
	}
	for _, id := range topologytest.HostileIDs {
		graphs = append(graphs, topologytest.Hostile(id, "plain"))
	}
	var texts []string
	for _, g := range graphs {
		var b bytes.Buffer
		require.NoError(t, page.WriteMermaid(&b, g))
		texts = append(texts, b.String())
	}
	texts = append(texts, "flowchart LR\n  end --> graph\n") // what a raw id does
	in, err := json.Marshal(texts)
	require.NoError(t, err)
	check := exec.CommandContext(ctx, node, "check.mjs")
	var complaints bytes.Buffer
	check.Dir, check.Stdin, check.Stderr = dir, bytes.NewReader(in), &complaints
	out, err = check.Output()
	require.NoError(t, err, "%s", complaints.String())
	var results []struct {
		Error, Kind  string
		Nodes, Edges int
	}
	require.NoError(t, json.Unmarshal(out, &results))
	require.Len(t, results, len(texts))
	for i, g := range graphs {
		g = g.Normalize()
		require.Empty(t, results[i].Error, texts[i])
		require.Equal(t, len(g.Nodes), results[i].Nodes, texts[i])
		require.Equal(t, len(g.Edges), results[i].Edges, texts[i])
	}
	require.NotEmpty(t, results[len(graphs)].Error, "the check can fail")
}
