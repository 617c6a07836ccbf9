package health_test

import (
	"fmt"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
)

func Example() {
	m, err := monitor.New(monitor.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		d.Service("ledgers").Load = 0.95
		sink := d.Service("archive")
		sink.Load, sink.Upstreams = 0.99, []string{"ledgers"}
	}))
	h, err := health.New(m, health.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	r := h.Report()
	fmt.Println(r.Status, "-", r.Summary)
	for _, advice := range r.Recommendations {
		fmt.Println(advice.Code, advice.Service, "-", advice.Text)
	}
	// Output:
	// degraded - archive is the bottleneck: 99 % of its limit.
	// service_high_load archive - Service archive is at 99.0% capacity, consider scaling.
}
