package alert_test

import (
	"fmt"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
)

func Example() {
	m, err := monitor.New(monitor.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	alerts, err := alert.New(alert.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	alerts.OnTransition(func(t alert.Transition) {
		if t.To == alert.Firing && !t.Alert.Quiet() {
			fmt.Println(t.Alert.Summary, t.Alert.Runbook)
		}
	})
	stop := alerts.Watch(m)
	defer stop()
	m.Start()
	defer m.Stop()
	fmt.Println(len(alerts.Alerts()), "alerts")
	// Output: 0 alerts
}
