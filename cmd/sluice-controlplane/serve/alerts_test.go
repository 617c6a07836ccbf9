package serve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/topology"
)

func TestGraphShowsAlerts(t *testing.T) {
	began := time.Unix(1000, 0)
	sink := alert.Labels{"service_id": "sink"}
	edge := alert.Labels{"source": "ttp", "target": "sink"}
	alerts := []alert.Alert{
		{
			Rule:     "Saturated",
			State:    alert.Firing,
			Severity: alert.Critical,
			Labels:   sink,
			Summary:  "Service sink is full",
			ActiveAt: began,
		},
		{Rule: "EdgeBlocked", State: alert.Firing, Severity: alert.Warning, Labels: edge, Acknowledged: "ada"},
		{Rule: "Pressure", State: alert.Pending, Severity: alert.Warning, Summary: "Backpressure"},
		{Rule: "Over", State: alert.Resolved},
		{Rule: "Never", State: alert.Inactive},
		{Rule: "Silent", State: alert.Firing, Silenced: true},
		{Rule: "Explained", State: alert.Firing, Inhibited: "Saturated"},
		{Rule: "Victim", State: alert.Pending, CausedBy: "sink"},
	}
	own := []topology.Alert{{Name: "Own"}}
	graph := &topology.Graph{Name: "p", Alerts: own}
	src := withAlerts(
		topology.SourceFunc(func() *topology.Graph { return graph }),
		func() []alert.Alert { return alerts },
	)
	require.Equal(t, []topology.Alert{
		{Name: "Own"},
		{Name: "Saturated", Severity: "critical", Node: "sink", Summary: "Service sink is full", Since: began},
		{Name: "EdgeBlocked", Severity: "warning", Node: "sink", Summary: ", taken up by ada"},
		{Name: "Pressure", Severity: "info", Summary: "pending: Backpressure"},
	}, src.Topology().Alerts)
	require.Equal(t, own, graph.Alerts, "the shared graph stays as it is")
	require.Equal(t, "p", src.Topology().Name)
	alerts = nil
	require.Equal(t, own, src.Topology().Alerts)
}
