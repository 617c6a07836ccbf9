package topologytest

import (
	"bytes"
	"io"
	"reflect"
	"sync"
	"testing"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
)

// RunSource checks what every [topology.Source] owes: a graph, always, also to
// many callers at once, that every export can write and that is not changed by
// being written.
func RunSource(t *testing.T, src topology.Source) {
	t.Helper()
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 10 {
				if src.Topology() == nil {
					t.Error("Topology returned nil")
				}
			}
		})
	}
	callers.Wait()
	g := src.Topology()
	if g == nil {
		return
	}
	before := g.Clone()
	for name, write := range map[string]func(io.Writer, *topology.Graph) error{
		"JSON": func(w io.Writer, g *topology.Graph) error { return g.WriteJSON(w) },
		"SVG":  page.WriteSVG, "Mermaid": page.WriteMermaid, "DOT": page.WriteDOT, "ASCII": page.WriteASCII,
		"Grafana": page.WriteGrafana,
	} {
		var out bytes.Buffer
		if err := write(&out, g); err != nil || out.Len() == 0 {
			t.Errorf("Write%s: %d bytes, %v", name, out.Len(), err)
		}
	}
	if !reflect.DeepEqual(g, before) {
		t.Error("writing the graph changed it")
	}
}
