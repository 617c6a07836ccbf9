package serve

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/topology"
)

func TestGraphShowsAlerts(t *testing.T) {
	began := time.Unix(1000, 0)
	sink := monitor.Labels{{Name: "service_id", Value: "sink"}}
	edge := monitor.Labels{{Name: "source", Value: "ttp"}, {Name: "target", Value: "sink"}}
	alerts := []monitor.Alert{
		{
			Rule:     "Saturated",
			State:    monitor.Firing,
			Severity: monitor.Critical,
			Labels:   sink,
			Summary:  "Service sink is full",
			ActiveAt: began,
		},
		{Rule: "EdgeBlocked", State: monitor.Firing, Severity: monitor.Warning, Labels: edge, Acknowledged: "ada"},
		{Rule: "Pressure", State: monitor.Pending, Severity: monitor.Warning, Summary: "Backpressure"},
		{Rule: "Over", State: monitor.Resolved},
		{Rule: "Never", State: monitor.Inactive},
		{Rule: "Silent", State: monitor.Firing, Silenced: true},
		{Rule: "Explained", State: monitor.Firing, Inhibited: "Saturated"},
		{Rule: "Victim", State: monitor.Pending, CausedBy: "sink"},
	}
	own := []topology.Alert{{Name: "Own"}}
	graph := &topology.Graph{Name: "p", Alerts: own}
	src := withAlerts(
		topology.SourceFunc(func() *topology.Graph { return graph }),
		func() []monitor.Alert { return alerts },
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
