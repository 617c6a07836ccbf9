package connpool_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"github.com/withobsrvr/sluice/interceptors"
	"google.golang.org/grpc/credentials/insecure"
)

// A Flight client over a pool. Closing the client leaves the pool open.
func Example() {
	pool, err := connpool.New("dns:///stellar-arrow-source:8815", connpool.Config{
		Credentials: insecure.NewCredentials(),
		// gRPC retries what fails on the way, where reading twice is safe.
		ServiceConfig: interceptors.ServiceConfig(interceptors.ServiceConfigOptions{}),
		// Unary calls never wait behind bulk streams.
		Lanes: []connpool.Lane{{Name: connpool.LaneControl, Unary: true}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()

	client := flight.NewClientFromConn(pool.Shared(), nil)
	fmt.Println(client.Close(), pool.Stats().MaxConnections)
	// Output: <nil> 10
}

// A rejection by the pool carries its reason.
func ExampleError() {
	server := connpooltest.NewServer(connpooltest.Behavior{})
	server.Stop()
	pool, err := connpool.New(connpooltest.Target, connpool.Config{
		Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	err = connpooltest.Call(context.Background(), pool)
	if e, ok := errors.AsType[*connpool.Error](err); ok {
		fmt.Println(e.Reason, e.Endpoint, e.RetryAfter > 0)
	}
	// Output: unreachable passthrough:///bufconn true
}

// One pool for each endpoint, alike but for the overrides.
func ExampleManager() {
	manager, err := connpool.NewManager(
		connpool.Config{Credentials: insecure.NewCredentials(), Picker: connpool.LeastLoaded, MaxAge: time.Hour},
		connpool.Override{Endpoint: "dns:///archive:8815", Change: func(c *connpool.Config) { c.MaxConnections = 2 }},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer manager.Close()
	for _, endpoint := range []string{"dns:///source:8815", "dns:///archive:8815"} {
		pool, err := manager.Get(endpoint)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(pool.Target(), pool.Stats().MaxConnections)
	}
	// Output:
	// dns:///source:8815 10
	// dns:///archive:8815 2
}

// Control traffic and sessions say so in their context.
func ExampleWithLane() {
	server := connpooltest.NewServer(connpooltest.Behavior{MaxStreams: 100})
	defer server.Stop()
	pool, err := connpool.New(connpooltest.Target, connpool.Config{
		Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	ctx := connpool.WithLane(context.Background(), connpool.LaneControl)
	fmt.Println(connpooltest.Call(ctx, pool))
	ctx = connpool.WithAffinity(context.Background(), "session 7")
	fmt.Println(connpooltest.Call(ctx, pool))
	// Output:
	// <nil>
	// <nil>
}
