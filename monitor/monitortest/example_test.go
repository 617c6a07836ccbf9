package monitortest_test

import (
	"fmt"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/monitortest"
)

func ExampleScript() {
	script := monitortest.NewScript(
		func(d *monitor.Draft) { d.Service("sink").Load = 0.2 },
		func(d *monitor.Draft) { d.Service("sink").Load = 0.9 },
		monitortest.Nothing,
	)
	m, err := monitor.New(monitor.Config{Freshness: -1})
	if err != nil {
		fmt.Println(err)
		return
	}
	m.Watch(script)
	h, err := health.New(m, health.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		r := h.Report()
		fmt.Println(r.Pipeline.TotalServices, len(r.Recommendations))
		script.Next()
	}
	// Output:
	// 1 0
	// 1 1
	// 0 0
}
