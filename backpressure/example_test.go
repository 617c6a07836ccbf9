package backpressure_test

import (
	"fmt"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

// printGate is anything that admits a fraction of what comes.
type printGate struct{}

func (printGate) SetFraction(f float64) { fmt.Printf("the source admits %.2f\n", f) }

func Example() {
	controller, err := backpressure.New(backpressure.Config{Policy: backpressure.Step{}})
	if err != nil {
		panic(err)
	}
	defer controller.Close()
	defer controller.Bind(printGate{})()

	for _, inFlight := range []int64{700, 810, 700, 590} {
		report := backpressure.Report{ServiceID: "analytics-sink", InFlight: inFlight, MaxInFlight: 1000}
		if err := controller.Report(report); err != nil {
			panic(err)
		}
	}
	// Output:
	// the source admits 1.00
	// the source admits 0.50
	// the source admits 1.00
}

func ExampleController_Metrics() {
	controller, err := backpressure.New(backpressure.Config{})
	if err != nil {
		panic(err)
	}
	defer controller.Close()
	for _, r := range []backpressure.Report{
		{ServiceID: "source", Kind: topology.KindSource, Throughput: 1000, Latency: 2e6},
		{ServiceID: "processor", Kind: topology.KindProcessor, Throughput: 1000, Latency: 5e6, Upstreams: []string{"source"}},
		{ServiceID: "sink", Kind: topology.KindSink, Throughput: 990, Latency: 40e6, Upstreams: []string{"processor"}},
	} {
		if err := controller.Report(r); err != nil {
			panic(err)
		}
	}
	m := controller.Metrics()
	fmt.Println(m.TotalThroughput, "events/s,", m.EndToEndLatency)
	// Output:
	// 990 events/s, 47ms
}
