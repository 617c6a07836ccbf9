package page

import (
	_ "embed"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/topologytest"
)

//go:embed geometry.js
var geometry string

// TestLooksOfOddGraphs looks at graphs that a reference pipeline never shows:
// several of each kind, a line over two stages, a cycle, titles that do not fit,
// nothing at all.
func TestLooksOfOddGraphs(t *testing.T) {
	browser := startBrowser(t)
	for name, g := range map[string]*topology.Graph{
		"fan": fan(), "hostile": topologytest.Hostile(topologytest.HostileIDs[len(topologytest.HostileIDs)-10:]...), "empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, topology.SourceFunc(func() *topology.Graph { return g }))
			for _, l := range looks {
				p := open(t, browser, address, l)
				p.picture("page-" + l.name + "-odd-" + name)
				found, err := chromedp.Run(p.ctx, chromedp.Evaluate[[]string](geometry))
				require.NoError(t, err)
				require.Empty(t, found, "%v", l)
				p.clean(address)
			}
		})
	}
}

// TestImages writes the images of the documentation where UPDATE is set, after
// long enough for the sparklines to show something.
func TestImages(t *testing.T) {
	play := "300"
	if os.Getenv("UPDATE") != "" {
		play = "4000"
	}
	browser := startBrowser(t)
	script := topologytest.NewScript()
	_, address := serve(t, script)
	for _, l := range looks {
		script.Play(topologytest.Calm)
		p := open(t, browser, address, l)
		for _, scene := range []topologytest.Scene{topologytest.Calm, topologytest.Busy, topologytest.Throttled} {
			script.Play(scene)
			before := p.text(`document.documentElement.dataset.frame`)
			p.wait(`document.documentElement.dataset.frame > ` + before + ` + ` + play)
		}
		p.document("topology-" + l.name)
	}
}

// document writes an image of the documentation, where UPDATE is set.
func (p *tab) document(name string) {
	p.t.Helper()
	if os.Getenv("UPDATE") == "" {
		return
	}
	image, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(filepath.Join("..", "..", "..", "docs", "images", name+".png"), image, 0o644))
}

// fan has several of each kind, a line over two stages, and a cycle.
func fan() *topology.Graph {
	g := &topology.Graph{Name: "fan"}
	node := func(id string, k topology.Kind, load float64) {
		g.Nodes = append(g.Nodes, topology.Node{
			ID: id, Kind: k,
			Status: topology.Status{Health: topology.HealthHealthy, Load: load, InFlight: int64(64 * load), MaxInFlight: 64},
		})
	}
	node("source-a", topology.KindSource, 0.2)
	node("source-b", topology.KindSource, 0.3)
	node("decode-1", topology.KindProcessor, 0.5)
	node("decode-2", topology.KindProcessor, 0.65)
	node("enrich", topology.KindProcessor, 0.9)
	node("retry", topology.KindProcessor, 0.1)
	node("warehouse", topology.KindSink, 0.4)
	node("archive", topology.KindSink, 0.7)
	for _, e := range [][2]string{
		{"source-a", "decode-1"},
		{"source-a", "decode-2"},
		{"source-b", "decode-2"},
		{"decode-1", "enrich"},
		{"decode-2", "enrich"},
		{"enrich", "warehouse"},
		{"enrich", "archive"},
		{"source-b", "archive"},
		{"enrich", "retry"},
		{"retry", "enrich"},
	} {
		g.Edges = append(g.Edges, topology.Edge{
			From: e[0], To: e[1], Origin: topology.OriginObserved, State: topology.StateConnected, Throughput: 950, Blocked: 0.3,
		})
	}
	return g
}
