package component_test

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// Beyond the limit the connection that has been silent longest goes, whoever came
// first: callers that say nothing keep nobody out.
func TestConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := bufconn.Listen(1 << 10)
		listener := component.LimitConnections(inner, 3)
		defer listener.Close()
		accepted := make(chan net.Conn)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					close(accepted)
					return
				}
				accepted <- conn
			}
		}()
		connect := func() (client, server net.Conn) {
			time.Sleep(time.Second)
			client, err := inner.DialContext(t.Context())
			require.NoError(t, err)
			return client, <-accepted
		}
		closed := func(client net.Conn) bool {
			require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Second)))
			_, err := client.Read(make([]byte, 1))
			timeout, ok := err.(net.Error)
			return !ok || !timeout.Timeout()
		}
		first, atServer := connect()
		second, _ := connect()
		third, _ := connect()
		time.Sleep(time.Second)
		go func() { _, _ = first.Write([]byte("x")) }()
		_, err := atServer.Read(make([]byte, 1))
		require.NoError(t, err)

		fourth, _ := connect()
		require.True(t, closed(second), "silent the longest")
		require.False(t, closed(first), "it came first, but it speaks")

		atServer.Close()
		fifth, _ := connect()
		for _, client := range []net.Conn{third, fourth, fifth} {
			require.False(t, closed(client), "one that was closed has no place")
		}
	})
}
