package interceptors_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/interceptors"
)

// A silentConn says nothing more, and takes no byte, once it is told so.
type silentConn struct {
	net.Conn
	silent atomic.Bool
	closed chan struct{}
}

func (c *silentConn) Write(b []byte) (int, error) {
	if c.silent.Load() {
		return len(b), nil // on its way, for ever
	}
	return c.Conn.Write(b)
}

func (c *silentConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.silent.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *silentConn) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return c.Conn.Close()
}

// A client behind a half-open link holds its streams for some eighty seconds.
func TestASilentClientLosesItsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		governor, err := interceptors.NewServer(interceptors.ServerConfig{})
		require.NoError(t, err)
		ended := make(chan time.Time, 1)
		server := grpc.NewServer(append(governor.ServerOptions(), grpc.UnknownServiceHandler(
			func(_ any, ss grpc.ServerStream) error {
				<-ss.Context().Done()
				ended <- time.Now()
				return nil
			}))...)
		listener := bufconn.Listen(1 << 16)
		serving := make(chan struct{})
		go func() { defer close(serving); _ = server.Serve(listener) }()
		var link *silentConn
		conn, err := grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				c, err := listener.DialContext(ctx)
				link = &silentConn{Conn: c, closed: make(chan struct{})}
				return link, err
			}))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		_, err = conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.Service/Talk")
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, int64(1), governor.Stats().ActiveStreams)
		link.silent.Store(true)
		began := time.Now()
		require.InDelta(t, 80*time.Second, (<-ended).Sub(began), float64(2*time.Second))
		synctest.Wait()
		require.Zero(t, governor.Stats().ActiveStreams)
		cancel()
		conn.Close()
		server.Stop()
		<-serving
	})
}
