package topology

import (
	"fmt"
	"io"
	"strings"
)

// WriteASCII writes the graph as text: stage by stage, each node with its bar
// and, below it, what it feeds.
func (g *Graph) WriteASCII(w io.Writer) error {
	g = g.Normalize()
	l, ix := newLayout(g), index(g)
	p := &g.Pipeline
	var b strings.Builder
	word, _ := pill(g)
	fmt.Fprintf(&b, "%s  %s  load %s  admitted %s  backpressure %s\n", ascii(g.Name), perSecond(p.Throughput),
		ascii(percent(p.Load)), ascii(percent(fractionOf(&Node{Status: Status{Fraction: p.Fraction}}))), word)
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
				ascii(fit(n.Title(), 19)), bar(n), ascii(percent(n.Load)), n.InFlight, n.MaxInFlight, n.QueueDepth, n.Health, ascii(gateWord(n)))
			for _, e := range ix.out.of(s.node) {
				arrow := "-->"
				if l.back[e] {
					arrow = "<-- back to"
				}
				fmt.Fprintf(&b, "          %s %s  [%s]\n", arrow, ascii(fit(g.Nodes[ix.to[e]].Title(), 30)), ascii(labelOf(&g.Edges[e])))
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

func bar(n *Node) string {
	if n.Health.Gone() {
		return "[----------]"
	}
	full := int(min(n.Load, 1)*10 + 0.5)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", 10-full) + "]"
}

// ascii writes a text in ASCII, what is not as ? but for the spaces and marks of
// our own.
func ascii(s string) string {
	s = strings.NewReplacer("\u00a0", " ", "·", "-", "–", "-", "…", "...", "µ", "u").Replace(line(s))
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, s)
}
