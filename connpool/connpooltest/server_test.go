package connpooltest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Each misbehavior, seen by a plain client.
func TestServerMisbehaves(t *testing.T) {
	type scene func(t *testing.T, s *connpooltest.Server, cc *grpc.ClientConn)
	with := func(t *testing.T, b connpooltest.Behavior, run scene) {
		synctest.Test(t, func(t *testing.T) {
			s := connpooltest.NewServer(b)
			defer s.Stop()
			cc, err := grpc.NewClient(connpooltest.Target,
				append(s.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
			require.NoError(t, err)
			defer cc.Close()
			run(t, s, cc)
		})
	}
	t.Run("slow", func(t *testing.T) {
		with(t, connpooltest.Behavior{Slow: time.Minute}, func(t *testing.T, _ *connpooltest.Server, cc *grpc.ClientConn) {
			began := time.Now()
			require.NoError(t, connpooltest.Call(t.Context(), cc))
			require.Equal(t, time.Minute, time.Since(began))
		})
	})
	t.Run("flaky", func(t *testing.T) {
		with(t, connpooltest.Behavior{FailEvery: 2}, func(t *testing.T, _ *connpooltest.Server, cc *grpc.ClientConn) {
			require.NoError(t, connpooltest.Call(t.Context(), cc))
			require.Equal(t, codes.Unavailable, status.Code(connpooltest.Call(t.Context(), cc)))
			require.NoError(t, connpooltest.Call(t.Context(), cc))
		})
	})
	t.Run("refusing, stopped and back", func(t *testing.T) {
		with(t, connpooltest.Behavior{}, func(t *testing.T, s *connpooltest.Server, cc *grpc.ClientConn) {
			s.Refuse(true)
			require.ErrorContains(t, connpooltest.Call(t.Context(), cc), "connection refused by the test")
			s.Refuse(false)
			require.NoError(t, connpooltest.Call(t.Context(), cc, grpc.WaitForReady(true)))
			s.Stop()
			synctest.Wait() // the client has seen it: a call before that may go down with the connection
			require.Panics(t, func() { s.Start(connpooltest.Behavior{}); s.Start(connpooltest.Behavior{}) })
			require.NoError(t, connpooltest.Call(t.Context(), cc, grpc.WaitForReady(true)))
			require.Equal(t, 1, s.Counts().Open)
		})
	})
	t.Run("limited", func(t *testing.T) {
		with(t, connpooltest.Behavior{MaxStreams: 1}, func(t *testing.T, s *connpooltest.Server, cc *grpc.ClientConn) {
			first, err := connpooltest.OpenServerStream(t.Context(), cc)
			require.NoError(t, err)
			require.NoError(t, connpooltest.Recv(first))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.Equal(t, codes.DeadlineExceeded, status.Code(connpooltest.Call(ctx, cc)))
			s.Release()
			n, err := connpooltest.ReadAll(first)
			require.NoError(t, err)
			require.Zero(t, n)
			require.NoError(t, connpooltest.Call(t.Context(), cc))
		})
	})
	t.Run("silent", func(t *testing.T) {
		with(t, connpooltest.Behavior{}, func(t *testing.T, s *connpooltest.Server, cc *grpc.ClientConn) {
			require.NoError(t, connpooltest.Call(t.Context(), cc))
			s.Silence(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			require.Equal(t, codes.DeadlineExceeded, status.Code(connpooltest.Call(ctx, cc)))
		})
	})
	t.Run("GOAWAY", func(t *testing.T) {
		with(t, connpooltest.Behavior{MaxAge: time.Minute}, func(t *testing.T, s *connpooltest.Server, cc *grpc.ClientConn) {
			require.NoError(t, connpooltest.Call(t.Context(), cc))
			time.Sleep(2 * time.Minute)
			require.NoError(t, connpooltest.Call(t.Context(), cc))
			require.Equal(t, 2, s.Counts().Accepted)
		})
	})
	t.Run("drained", func(t *testing.T) {
		with(t, connpooltest.Behavior{}, func(t *testing.T, s *connpooltest.Server, cc *grpc.ClientConn) {
			bidi, err := cc.NewStream(t.Context(),
				&grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, connpooltest.BidiStream)
			require.NoError(t, err)
			require.NoError(t, connpooltest.Send(bidi))
			require.NoError(t, connpooltest.Recv(bidi))
			go s.Drain()
			synctest.Wait()
			require.NoError(t, connpooltest.Send(bidi))
			require.NoError(t, connpooltest.Recv(bidi), "it runs on")
			require.NoError(t, bidi.CloseSend())
			_, err = connpooltest.ReadAll(bidi)
			require.NoError(t, err)
		})
	})
}
