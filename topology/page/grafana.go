package page

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/internal/text"
)

// WriteGrafana writes {"nodes": […], "edges": […]} as Grafana's node graph panel
// reads it, for example through the Infinity data source with two queries, one a
// root. The places are ours (fixedX, fixedY), so that the panel shows the same
// layers as the page. The panel draws at most 1500 nodes.
func WriteGrafana(w io.Writer, g *topology.Graph) error {
	g = g.Normalize()
	s := newScene(g, false)
	type object = map[string]any
	nodes, edges := []object{}, []object{}
	for i := range g.Nodes {
		n, card := &g.Nodes[i], s.cards[i]
		load := min(n.Load, 1) // the arcs of a node must sum to 1
		if n.Health.Gone() {
			load = 0
		}
		node := object{
			"id": n.ID, "title": n.Title(), "subtitle": string(n.Kind), "mainstat": text.Percent(n.Load),
			"secondarystat": perSecond(rateOf(n)), "arc__load": load, "arc__free": 1 - load,
			"color": dotColor[s.busy(n)], "detail__health": string(n.Health), "detail__endpoint": n.Endpoint,
			"detail__version": n.Version, "detail__in_flight": fmt.Sprintf("%d / %d", n.InFlight, n.MaxInFlight),
			"detail__queue": n.QueueDepth, "detail__gate": gateWord(n),
		}
		if card.w > 0 {
			node["fixedx"], node["fixedy"] = round(card.x+card.w/2), round(card.y+card.h/2)
		}
		nodes = append(nodes, node)
	}
	for i := range g.Edges {
		e := &g.Edges[i]
		edge := object{
			"id": fmt.Sprintf("e%d", i), "source": e.From, "target": e.To,
			"mainstat": perSecond(e.Throughput), "secondarystat": "blocked " + text.Percent(e.Blocked),
			"thickness": 1 + round(4*e.Blocked), "color": dotColor[s.busy(&g.Nodes[s.ix.To[i]])],
			"detail__state": string(e.State), "detail__latency": span(e.Latency), "detail__reconnects": e.Reconnects,
			"detail__origin": string(e.Origin),
		}
		if e.Origin != topology.OriginObserved || !e.Connected {
			edge["strokedasharray"] = "5,5"
		}
		edges = append(edges, edge)
	}
	return json.NewEncoder(w).Encode(object{"nodes": nodes, "edges": edges})
}
