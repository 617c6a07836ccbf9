package topologytest

import (
	"strings"

	"github.com/withobsrvr/sluice/topology"
)

// HostileIDs are ids that break an export that trusts them.
var HostileIDs = []string{
	"end", "graph", "subgraph", "node", "strict digraph", `"`, `\`, `\"`, `"]`, `<b>bold</b>`,
	`"><script>alert(1)</script>`,
	"a\nb", "a\r\nb", "tab\there", "nul\x00", "\u2028", "&amp;", "&quot;", "#quot;", "#35;", "`code`", "$x$",
	"%%{init: {}}%%", "%% comment",
	"a --> b", "a|b", "{a}", "[a]", "(a)", "class x y", "click n0 call f()", ":::hot", ";", "'", "]]>", "--", "<!--",
	"\u202egnp.exe", "אבג", "مرحبا", "漢字の節点", "🚰🚰🚰", "\xff\xfe", strings.Repeat("x", 300), strings.Repeat("W", 300),
	strings.Repeat("漢", 100),
}

// Hostile returns a graph whose every text is one of ids, chained and with a
// cycle.
func Hostile(ids ...string) *topology.Graph {
	g := &topology.Graph{Name: ids[0]}
	kinds := []topology.Kind{topology.KindSource, topology.KindProcessor, topology.KindSink, topology.KindUnknown}
	for i, id := range ids {
		g.Nodes = append(g.Nodes, topology.Node{
			ID: id, Name: ids[(i+1)%len(ids)], Kind: kinds[i%len(kinds)], Version: id, Endpoint: id,
			InputEventTypes: []string{id}, OutputEventTypes: []string{id}, Metadata: map[string]string{id: id},
			Status: topology.Status{Health: topology.HealthHealthy, Load: 0.9},
		})
		if i > 0 {
			g.Edges = append(g.Edges, topology.Edge{
				From: ids[i-1], To: id, Endpoint: id, EventTypes: []string{id},
				State: topology.StateConnected, Origin: topology.OriginObserved, Blocked: 0.5,
			})
		}
	}
	g.Edges = append(g.Edges, topology.Edge{From: ids[len(ids)-1], To: ids[0]})
	g.Alerts = []topology.Alert{{Name: ids[0], Node: ids[0], Summary: ids[len(ids)-1], Severity: ids[0]}}
	return g
}
