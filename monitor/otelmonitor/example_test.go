package otelmonitor_test

import (
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/otelmonitor"
)

func ExampleRegister() {
	provider := sdkmetric.NewMeterProvider( /* your reader and exporter */ )
	m, err := monitor.New(monitor.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	registration, err := otelmonitor.Register(m, provider)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(registration.Close())
	// Output: <nil>
}
