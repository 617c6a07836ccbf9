package agent_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/topology"
)

// gate is the component's throttler: it hands on what it is told.
type gate chan float64

func (g gate) SetFraction(f float64) { g <- f }

func Example() {
	plane, err := server.New(server.Config{
		Decision: backpressure.Config{Policy: backpressure.Step{}},
	})
	if err != nil {
		panic(err)
	}
	defer plane.Close()
	services := grpc.NewServer(server.GRPCOptions()...)
	defer services.Stop()
	plane.Register(services)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go services.Serve(listener)

	throttler := make(gate, 1)
	member, err := agent.New(agent.Config{
		Endpoint: listener.Addr().String(),
		Component: controlplane.Component{
			ID:              "analytics-sink",
			Kind:            topology.KindSink,
			InputEventTypes: []string{"token_transfer"},
		},
		Report:  func() backpressure.Report { return backpressure.Report{InFlight: 90, MaxInFlight: 100} },
		Targets: []backpressure.FractionSetter{throttler},
		Local:   backpressure.Config{Policy: backpressure.Step{}}, // while no control plane answers
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- member.Run(ctx) }()

	fmt.Println("the control plane lets through", <-throttler)
	stop()
	fmt.Println("the agent ended with", <-ended)
	// Output:
	// the control plane lets through 0.5
	// the agent ended with <nil>
}
