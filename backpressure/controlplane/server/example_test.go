package server_test

import (
	"fmt"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

func ExampleBearerToken() {
	const token = "from a file that others cannot read"
	services := grpc.NewServer(append(server.GRPCOptions(), server.BearerToken(token)...)...)
	defer services.Stop()
	plane, err := server.New(server.Config{Token: token})
	if err != nil {
		panic(err)
	}
	defer plane.Close()
	plane.Register(services)
	// Agents say agent.Config{Token: token, TLS: …}.
	fmt.Println(len(services.GetServiceInfo()), "services want the token")
	// Output:
	// 3 services want the token
}
