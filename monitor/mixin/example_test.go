package mixin_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/mixin"
)

func ExampleAlerts() {
	rules := alert.DefaultRules()
	for i := range rules {
		if rules[i].Name == "BackpressureActive" {
			rules[i].For = 5 * time.Minute
		}
	}
	lines := strings.Split(string(mixin.Alerts(rules)), "\n")
	for i, line := range lines {
		if strings.HasSuffix(line, "BackpressureActive") {
			fmt.Println(strings.Join(lines[i:i+3], "\n"))
		}
	}
	// Output:
	// - alert: BackpressureActive
	//         expr: "max(flowctl_backpressure_active) == 1"
	//         for: 5m
}
