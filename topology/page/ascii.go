package page

import (
	"fmt"
	"io"
	"strings"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

// WriteASCII writes the graph as text: stage by stage, each node with its bar
// and, below it, what it feeds.
func WriteASCII(w io.Writer, g *topology.Graph) error {
	g = g.Normalize()
	l, ix := newLayout(g), numbered(g)
	p := &g.Pipeline
	var b strings.Builder
	word, _ := pill(g)
	fmt.Fprintf(&b, "%s  %s  load %s  admitted %s  backpressure %s\n", ascii(g.Name), perSecond(p.Throughput),
		ascii(text.Percent(p.Load)),
		ascii(text.Percent(fractionOf(&topology.Node{Status: topology.Status{Fraction: p.Fraction}}))), word)
	if g.Bottleneck != nil {
		fmt.Fprintf(&b, "! %s\n", ascii(g.Bottleneck.Sentence))
	}
	for at, layer := range l.layers {
		fmt.Fprintf(&b, "\n-- stage %d\n", at+1)
		for _, s := range layer {
			if s.node < 0 {
				continue
			}
			n := &g.Nodes[s.node]
			fmt.Fprintf(&b, "%-9s %-32s %s %5s  in flight %d/%d  queue %d  %s  %s\n", strings.ToLower(string(n.Kind)),
				ascii(text.Fit(n.Title(), 19)), bar(n), ascii(text.Percent(n.Load)), n.InFlight, n.MaxInFlight, n.QueueDepth,
				n.Health, ascii(gateWord(n)))
			for _, e := range ix.Out.Of(s.node) {
				arrow := "-->"
				if l.back[e] {
					arrow = "<-- back to"
				}
				fmt.Fprintf(&b, "          %s %s  [%s]\n", arrow, ascii(text.Fit(g.Nodes[ix.To[e]].Title(), 30)),
					ascii(labelOf(&g.Edges[e])))
			}
		}
	}
	for _, problem := range g.Problems {
		fmt.Fprintf(&b, "\n? %s", ascii(problem.Text))
	}
	if len(g.Problems) > 0 {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// bar is a load in ten cells; a node that is gone has no load.
func bar(n *topology.Node) string {
	if n.Health.Gone() {
		return "[----------]"
	}
	full := int(min(n.Load, 1)*10 + 0.5)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", 10-full) + "]"
}

// ascii writes a text in ASCII, what is not as ? but for the spaces and marks of
// our own.
func ascii(s string) string {
	s = strings.NewReplacer("\u00a0", " ", "·", "-", "–", "-", "…", "...", "µ", "u").Replace(text.Line(s))
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}
