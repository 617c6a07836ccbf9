package serve

import (
	"cmp"

	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/topology"
)

// withAlerts is a graph with what the alert engine says about it. The graph is
// shared, so the alerts go into a copy.
func withAlerts(graph topology.Source, alerts func() []alert.Alert) topology.Source {
	return topology.SourceFunc(func() *topology.Graph {
		g := *graph.Topology()
		g.Alerts = append(g.Alerts[:len(g.Alerts):len(g.Alerts)], shown(alerts())...)
		return &g
	})
}

// shown are the alerts that fire and, as information, those that are about to,
// without those that another one explains or that are silenced.
func shown(alerts []alert.Alert) []topology.Alert {
	var list []topology.Alert
	for _, a := range alerts {
		if a.Silenced || a.Inhibited != "" || a.CausedBy != "" {
			continue
		}
		// An edge that is blocked is so by its target.
		seen := topology.Alert{
			Name: a.Rule, Severity: string(a.Severity), Summary: a.Summary, Since: a.ActiveAt,
			Node: cmp.Or(a.Labels["service_id"], a.Labels["target"]),
		}
		switch a.State {
		case alert.Firing:
		case alert.Pending:
			seen.Severity = string(alert.Info)
			seen.Summary = "pending: " + seen.Summary
		default:
			continue
		}
		if a.Acknowledged != "" {
			seen.Summary += ", taken up by " + a.Acknowledged
		}
		list = append(list, seen)
	}
	return list
}
