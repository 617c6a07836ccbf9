package page

import (
	"fmt"
	"io"
	"strings"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

// exporter writes a graph in one form.
type exporter = func(io.Writer, *topology.Graph) error

func writeJSON(w io.Writer, g *topology.Graph) error { return g.WriteJSON(w) }

// exports are the forms that the page links, by the last part of their URL.
var exports = map[string]struct {
	mediaType string
	write     exporter
}{
	"topology.json": {"application/json", writeJSON},
	"topology.svg":  {"image/svg+xml", WriteSVG},
	"topology.mmd":  {"text/plain; charset=utf-8", WriteMermaid},
	"topology.dot":  {"text/vnd.graphviz; charset=utf-8", WriteDOT},
	"topology.txt":  {"text/plain; charset=utf-8", WriteASCII},
	"grafana.json":  {"application/json", WriteGrafana},
}

// WriteSVG writes the graph as an SVG file that stands alone: light and dark by
// the reader's preference, no script, no reference to anything outside.
func WriteSVG(w io.Writer, g *topology.Graph) error {
	var out svgWriter
	newScene(g.Normalize(), false).draw(&out, graphCSS(), nil)
	_, err := io.WriteString(w, out.String()+"\n")
	return err
}

// WriteMermaid writes a Mermaid flowchart. Ids are numbers and every text is
// quoted with entities, for a raw id such as "end" is a keyword there.
func WriteMermaid(w io.Writer, g *topology.Graph) error {
	g = g.Normalize()
	ix := numbered(g)
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	classes := map[string]bool{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		class := mermaidClass(g, n)
		classes[class] = true
		shape := [2]string{"[", "]"}
		switch n.Kind {
		case topology.KindSource:
			shape = [2]string{"([", "])"}
		case topology.KindSink:
			shape = [2]string{"[/", "/]"}
		}
		said := mermaid(n.Title())
		if !n.Health.Gone() {
			said += "<br/>" + mermaid(caption(n))
		} else {
			said += "<br/>" + mermaid(string(n.Health))
		}
		fmt.Fprintf(&b, "  n%d%s\"%s\"%s:::%s\n", i, shape[0], said, shape[1], class)
	}
	for e := range g.Edges {
		arrow := "-->"
		if g.Edges[e].Origin != topology.OriginObserved || !g.Edges[e].Connected {
			arrow = "-.->"
		}
		fmt.Fprintf(&b, "  n%d %s|\"%s\"| n%d\n", ix.From[e], arrow, mermaid(labelOf(&g.Edges[e])), ix.To[e])
	}
	for _, c := range []struct{ name, style string }{
		{"calm", "fill:#e8f0fd,stroke:#2160c4,color:#171c26"},
		{"warm", "fill:#fdf1dd,stroke:#8f5200,color:#171c26"},
		{"hot", "fill:#fde8e8,stroke:#bd2222,color:#171c26"},
		{"gone", "fill:#eef0f3,stroke:#7d8696,color:#535d6f,stroke-dasharray:4"},
	} {
		if classes[c.name] {
			fmt.Fprintf(&b, "  classDef %s %s\n", c.name, c.style)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mermaidClass(g *topology.Graph, n *topology.Node) string { return (&scene{graph: g}).busy(n) }

// mermaid writes every rune that could mean something, in Mermaid or in the HTML
// that it makes, as an entity.
func mermaid(s string) string {
	var b strings.Builder
	for _, r := range text.Line(s) {
		switch {
		case r > 0x7f, r == ' ', r == '-', r == '_', r == '.', r == ',', r == '/', r == '%',
			r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}

// caption says a node's load and in flight.
func caption(n *topology.Node) string {
	if n.MaxInFlight == 0 {
		return text.Percent(n.Load)
	}
	return fmt.Sprintf("%s, %d of %d in flight", text.Percent(n.Load), n.InFlight, n.MaxInFlight)
}

// WriteDOT writes the graph for Graphviz.
func WriteDOT(w io.Writer, g *topology.Graph) error {
	g = g.Normalize()
	l, ix := newLayout(g), numbered(g)
	var b strings.Builder
	b.WriteString("digraph pipeline {\n  rankdir=LR;\n" +
		"  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fillcolor=white];\n" +
		"  edge [fontname=\"Helvetica\", fontsize=10];\n")
	for i := range g.Nodes {
		n := &g.Nodes[i]
		said := caption(n)
		if n.Health.Gone() {
			said = string(n.Health)
		}
		fmt.Fprintf(&b, "  n%d [label=%s, color=%s, tooltip=%s];\n", i, dot(n.Title()+"\n"+said),
			dot(dotColor[mermaidClass(g, n)]), dot(n.ID))
	}
	for e := range g.Edges {
		edge := &g.Edges[e]
		style := "solid"
		if edge.Origin != topology.OriginObserved || !edge.Connected {
			style = "dashed"
		}
		extra := ""
		if l.back[e] {
			extra = ", constraint=false"
		}
		fmt.Fprintf(&b, "  n%d -> n%d [label=%s, style=%s%s];\n", ix.From[e], ix.To[e], dot(labelOf(edge)), style, extra)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

var dotColor = map[string]string{"calm": "#2160c4", "warm": "#8f5200", "hot": "#bd2222", "gone": "#7d8696"}

// dot quotes a text. Only the line breaks that we put in are breaks; HTML-like
// labels begin with <, which a quoted text never does.
func dot(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\r", " ", "\u2028", " ", "\u2029", " ", "\x00",
		"\ufffd").Replace(text.Valid(s))
	// Graphviz reads entities in labels: an & that begins one must not.
	s = strings.ReplaceAll(s, "&", "&amp;")
	return `"` + strings.ReplaceAll(s, "\n", `\n`) + `"`
}
