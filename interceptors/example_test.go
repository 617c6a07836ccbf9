package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// counter is a Flight service of ten messages.
type counter struct{ flight.BaseFlightServer }

func (*counter) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	for range 10 {
		if err := stream.Send(&flight.FlightData{DataBody: make([]byte, 1000)}); err != nil {
			return err
		}
	}
	return nil
}

// A Flight server is governed in three lines: the gate, the interceptors, and
// their place in the server.
func Example() {
	gate, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 64, Bytes: 64 << 20}})
	if err != nil {
		log.Fatal(err)
	}
	governor, err := interceptors.NewServer(interceptors.ServerConfig{Throttler: gate})
	if err != nil {
		log.Fatal(err)
	}
	server := flight.NewServerWithMiddleware([]flight.ServerMiddleware{flight.ServerMiddleware(governor.Middleware())})

	server.RegisterFlightService(&counter{})
	if err := server.Init("127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}
	go server.Serve()

	client, err := flight.NewClientWithMiddleware(
		server.Addr().String(),
		nil,
		nil,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		log.Fatal(err)
	}
	n, err := get(context.Background(), client)
	fmt.Println(n, "messages,", err)
	_ = client.Close()

	// Shutdown alone waits for endless streams for ever: drain first, for so long.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = governor.Drain(ctx)
	server.Shutdown()
	sent := governor.Stats().Class(interceptors.ClassGet).Sent
	fmt.Println(sent.Messages, "messages,", sent.Bytes, "bytes sent,", governor.Stats().ActiveCalls, "calls open")
	// Output:
	// 10 messages, <nil>
	// 10 messages, 10000 bytes sent, 0 calls open
}

// A client is governed in the same way; DialOptions fit grpc.NewClient and
// connpool alike.
func ExampleNewClient() {
	client, err := interceptors.NewClient(interceptors.ClientConfig{})
	if err != nil {
		log.Fatal(err)
	}
	options := append(client.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(interceptors.ServiceConfig(interceptors.ServiceConfigOptions{})))
	conn, err := grpc.NewClient("passthrough:///source:8815", options...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fl := flight.NewClientFromConn(conn, nil)
	_ = fl
	fmt.Println(client.Stats().ActiveCalls)
	// Output: 0
}

// What a rejection looks like to a client, and in the server's statistics.
func ExampleError() {
	governor, err := interceptors.NewServer(
		interceptors.ServerConfig{MaxActiveStreams: 1, Pushback: interceptors.Pushback{Jitter: -1}},
	)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(governor.ServerOptions()...)
	flight.RegisterFlightServiceServer(server, &counter{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Stop()
	if err := governor.Drain(context.Background()); err != nil {
		log.Fatal(err)
	}

	client, err := flight.NewClientWithMiddleware(
		listener.Addr().String(),
		nil,
		nil,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, err = get(context.Background(), client)
	fmt.Println(err)
	delay, ok := interceptors.RetryAfter(err)
	fmt.Println(delay, ok)
	fmt.Println(governor.Stats().Rejected(interceptors.ReasonDraining))
	fmt.Println(errors.Is(err, interceptors.ErrRejected), "on the client's side of the wire")
	// Output:
	// rpc error: code = Unavailable desc = rejected: draining: the server is shutting down
	// 50ms true
	// 1
	// false on the client's side of the wire
}
