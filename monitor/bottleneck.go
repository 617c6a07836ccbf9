package monitor

import "github.com/withobsrvr/sluice/topology"

// findBottleneck asks the graph: the one that is watched or, in a process that
// watches none, the one that its services and edges make. The page, the report
// and the alerts thus name the same service.
func (s *Snapshot) findBottleneck(d *Draft) *topology.Bottleneck {
	if d.watchesGraph {
		return d.bottleneck
	}
	g := topology.Graph{
		Nodes: make([]topology.Node, len(s.Services)),
		Edges: make([]topology.Edge, len(s.Edges)),
	}
	if s.Pipeline != nil {
		g.Pipeline.Activate = s.Pipeline.ActivateAt
	}
	for i := range s.Services {
		v := &s.Services[i]
		health := topology.HealthHealthy
		if !v.Working() {
			health = topology.HealthDown
		}
		g.Nodes[i] = topology.Node{ID: v.ID, Upstreams: v.Upstreams, Status: topology.Status{Health: health, Load: v.Load}}
	}
	for i := range s.Edges {
		e := &s.Edges[i]
		g.Edges[i] = topology.Edge{From: e.Source, To: e.Target, Blocked: e.BlockedRatio, State: topology.StateConnected}
	}
	return g.Normalize().Bottleneck
}
