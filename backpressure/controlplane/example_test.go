package controlplane_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

// gate is the component's throttler: it hands on what it is told.
type gate chan float64

func (g gate) SetFraction(f float64) { g <- f }

func Example() {
	server, err := controlplane.NewServer(controlplane.ServerConfig{
		Decision: backpressure.Config{Policy: backpressure.Step{}},
	})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	services := grpc.NewServer(controlplane.ServerOptions()...)
	defer services.Stop()
	server.Register(services)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go services.Serve(listener)

	throttler := make(gate, 1)
	agent, err := controlplane.NewAgent(controlplane.AgentConfig{
		Endpoint: listener.Addr().String(),
		Component: controlplane.Component{
			ID:              "analytics-sink",
			Role:            backpressure.Sink,
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
	go func() { ended <- agent.Run(ctx) }()

	fmt.Println("the control plane lets through", <-throttler)
	stop()
	fmt.Println("the agent ended with", <-ended)
	// Output:
	// the control plane lets through 0.5
	// the agent ended with <nil>
}

func ExampleBearerToken() {
	const token = "from a file that others cannot read"
	services := grpc.NewServer(append(controlplane.ServerOptions(), controlplane.BearerToken(token)...)...)
	defer services.Stop()
	server, err := controlplane.NewServer(controlplane.ServerConfig{Token: token})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	server.Register(services)
	// Agents say controlplane.AgentConfig{Token: token, TLS: …}.
	fmt.Println(len(services.GetServiceInfo()), "services want the token")
	// Output:
	// 3 services want the token
}
