package interceptors_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
	"github.com/withobsrvr/sluice/interceptors"
)

// serveWith runs a Flight service behind a gate, in memory, and returns its client.
func serveWith(gate interceptors.Gate, service flight.FlightServer) (client flight.Client, stop func()) {
	governor, err := interceptors.NewServer(
		interceptors.ServerConfig{Throttler: gate, Pushback: interceptors.Pushback{Jitter: -1}},
	)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(governor.ServerOptions()...)
	flight.RegisterFlightServiceServer(server, service)
	listener := bufconn.Listen(1 << 16)
	go server.Serve(listener)
	client, err = flight.NewClientWithMiddleware("passthrough:///test", nil, nil,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { _ = client.Close(); server.Stop() }
}

// A Flight service under test gets a fake for a gate: one that always rejects
// shows what its callers see under overload, and a recorder what it asks for.
func ExampleGate() {
	full, stop := serveWith(flowcontroltest.AlwaysRejects{RetryAfter: 2 * time.Second}, &counter{})
	_, err := get(context.Background(), full)
	delay, _ := interceptors.RetryAfter(err)
	fmt.Println(status.Code(err), "again in", delay)
	stop()

	recorder := flowcontroltest.Record(flowcontroltest.AlwaysAdmits{})
	open, stop := serveWith(recorder, &counter{})
	n, err := get(context.Background(), open)
	fmt.Println(n, "messages,", err)
	stop()
	var asked flowcontrol.Cost
	for _, call := range recorder.Calls() {
		asked = asked.Add(call.Cost)
	}
	fmt.Println(len(recorder.Calls()), "requests to the gate,", asked.Bytes, "bytes")
	// Output:
	// Unavailable again in 2s
	// 10 messages, <nil>
	// 11 requests to the gate, 10000 bytes
}
