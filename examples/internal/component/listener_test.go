package component_test

import (
	"bytes"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// A pipeListener accepts connections of named hosts.
type pipeListener struct {
	net.Listener
	host string
}

type hostConn struct {
	net.Conn
	host string
}

type hostAddr string

func (a hostAddr) Network() string { return "tcp" }
func (a hostAddr) String() string  { return string(a) + ":1" }

func (c hostConn) RemoteAddr() net.Addr { return hostAddr(c.host) }

func (l *pipeListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return hostConn{conn, l.host}, err
}

// At the limit a connection goes that nobody misses, or the new one does.
func TestConnectionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := bufconn.Listen(1 << 10)
		hosts := &pipeListener{Listener: inner}
		listener := component.LimitConnections(hosts, 3)
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
		// connect returns nil for a connection that was closed at once.
		connect := func(host string, says int) (client, server net.Conn) {
			hosts.host = host
			time.Sleep(time.Millisecond)
			client, err := inner.DialContext(t.Context())
			require.NoError(t, err)
			select {
			case server = <-accepted:
			case <-time.After(time.Second):
				return nil, nil
			}
			if says > 0 {
				_, err = client.Write(bytes.Repeat([]byte("x"), says))
				require.NoError(t, err)
				_, err = server.Read(make([]byte, says))
				require.NoError(t, err)
			}
			return client, server
		}
		closed := func(client net.Conn) bool {
			require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Millisecond)))
			_, err := client.Read(make([]byte, 1))
			timeout, ok := err.(net.Error)
			return !ok || !timeout.Timeout()
		}
		// The test's own host is the one that Accept is waiting with.
		hosts.host = "a"
		mute, _ := connect("a", 0)
		nearlyMute, _ := connect("a", 10)
		first, atServer := connect("a", 100)
		second, _ := connect("a", 100)
		require.True(t, closed(mute), "it said nothing")
		third, _ := connect("a", 100)
		require.True(t, closed(nearlyMute), "it said next to nothing")
		fourth, _ := connect("a", 100)
		require.Nil(t, fourth, "all others speak")

		atServer.Close()
		fifth, _ := connect("a", 100)
		require.NotNil(t, fifth, "one that was closed has no place")
		require.True(t, closed(first))

		time.Sleep(time.Minute)
		sixth, _ := connect("a", 100)
		require.True(t, closed(second), "it was silent the longest")
		require.False(t, closed(third))
		require.False(t, closed(sixth))
	})
}

// A host with many connections gives one to a host that has fewer.
func TestConnectionsOfOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := bufconn.Listen(1 << 10)
		hosts := &pipeListener{Listener: inner, host: "many"}
		listener := component.LimitConnections(hosts, 3)
		defer listener.Close()
		speak := func() (client net.Conn) {
			go func() { client, _ = inner.DialContext(t.Context()) }()
			server, err := listener.Accept()
			require.NoError(t, err)
			synctest.Wait()
			go func() { _, _ = client.Write(make([]byte, 100)) }()
			_, err = server.Read(make([]byte, 100))
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
			return client
		}
		closed := func(client net.Conn) bool {
			require.NoError(t, client.SetReadDeadline(time.Now().Add(time.Millisecond)))
			_, err := client.Read(make([]byte, 1))
			timeout, ok := err.(net.Error)
			return !ok || !timeout.Timeout()
		}
		first, second, third := speak(), speak(), speak()
		hosts.host = "one"
		other := speak()
		require.True(t, closed(third), "the last one of the host that has the most")
		for _, client := range []net.Conn{first, second, other} {
			require.False(t, closed(client))
		}
	})
}
