package connpooltest_test

import (
	"context"
	"fmt"

	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc/credentials/insecure"
)

// A pool against a server that allows one stream a connection: both streams run.
func Example() {
	server := connpooltest.NewServer(connpooltest.Behavior{MaxStreams: 1})
	defer server.Stop()
	pool, err := connpool.New(connpooltest.Target, connpool.Config{
		Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	for range 2 {
		stream, err := connpooltest.OpenServerStream(context.Background(), pool)
		if err != nil {
			fmt.Println(err)
			return
		}
		if err := connpooltest.Recv(stream); err != nil {
			fmt.Println(err)
			return
		}
		defer func() {
			server.Release()
			_, _ = connpooltest.ReadAll(stream)
		}()
	}
	fmt.Println(server.Counts().Running, "streams run")
	// Output: 2 streams run
}
