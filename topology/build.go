package topology

import (
	"maps"
	"slices"
	"time"
)

// Topology returns the present graph: the same one until something changes.
func (t *Tracker) Topology() *Graph {
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.built == nil || !t.builtUntil.IsZero() && !now.Before(t.builtUntil) {
		t.built, t.builtUntil = t.buildLocked(now)
	}
	return t.built
}

// buildLocked puts the graph together, and says until when it holds if nothing
// else changes.
func (t *Tracker) buildLocked(now time.Time) (*Graph, time.Time) {
	g := &Graph{Version: t.version, Time: now, Name: t.cfg.Name, Pipeline: t.pipeline, Alerts: t.alerts}
	var until time.Time
	for _, id := range slices.Sorted(maps.Keys(t.nodes)) {
		n := *t.nodes[id] // Normalize makes the copy
		staleAfter := n.StaleAfter
		if staleAfter == 0 {
			staleAfter = t.cfg.StaleAfter
		}
		if staleAfter > 0 && !n.LastHeartbeat.IsZero() {
			switch goes := n.LastHeartbeat.Add(staleAfter); {
			case !now.Before(goes):
				n.Health = HealthDown
			case until.IsZero() || goes.Before(until):
				until = goes
			}
		}
		g.Nodes = append(g.Nodes, n)
	}
	for _, o := range t.observed {
		g.Edges = append(g.Edges, o.edge)
	}
	return g.Normalize(), until
}
