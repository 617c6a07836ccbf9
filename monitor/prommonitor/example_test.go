package prommonitor_test

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
)

func ExampleNewCollector() {
	m, err := monitor.New(monitor.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Watch(monitortest.Pipeline(3))

	registry := prometheus.NewRegistry() // yours
	registry.MustRegister(prommonitor.NewCollector(m))

	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		if f.GetName() == "flowctl_backpressure_active" {
			fmt.Println(f.GetName(), f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	// Output: flowctl_backpressure_active 1
}
