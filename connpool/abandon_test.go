package connpool_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// An upload that was sent in full is not cancelled: its answer is read for it.
// One that was dropped half-way is cancelled. On real time, see flight_test.go.
func TestAbandonedUploads(t *testing.T) {
	server, pool := start(t, connpooltest.Behavior{Slow: 2 * time.Second},
		func(c *connpool.Config) { c.Abandoned = connpool.Reclaim })
	drop := func(whole bool) {
		s, err := connpooltest.OpenClientStream(context.Background(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Send(s))
		if whole {
			require.NoError(t, s.CloseSend())
		}
	}
	drop(true)
	gone(t, pool)
	require.Zero(t, server.Counts().Cancelled, "the server finished its work")
	drop(false)
	gone(t, pool)
	require.Eventually(t, func() bool { return server.Counts().Cancelled == 1 }, time.Minute, time.Millisecond)
	require.EqualValues(t, 2, pool.Stats().Abandoned)

	// A stream that nobody holds does not keep Shutdown waiting either.
	drop(false)
	done := make(chan error, 1)
	go func() { done <- pool.Shutdown(t.Context()) }()
	require.Eventually(t, func() bool {
		runtime.GC()
		return len(done) == 1
	}, 20*time.Second, 20*time.Millisecond)
	require.NoError(t, <-done)
}

func gone(t *testing.T, pool *connpool.Pool) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC()
		return pool.Stats().Streams == 0
	}, 20*time.Second, 20*time.Millisecond)
}

// Nothing is left after Close: on real time too, where no bubble looks.
func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	server := connpooltest.NewServer(connpooltest.Behavior{})
	pool, err := connpool.New(connpooltest.Target, connpool.Config{
		Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(), MinConnections: 5,
	})
	require.NoError(t, err)
	ctx := t.Context()
	var held []grpc.ClientStream
	for range 20 {
		s, err := connpooltest.OpenServerStream(ctx, pool)
		require.NoError(t, err)
		held = append(held, s)
	}
	require.NoError(t, pool.Close())
	server.Stop()
	for began := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() { // gRPC's own end a moment later
		require.Less(t, time.Since(began), time.Minute, "goroutines are left")
	}
	runtime.KeepAlive(held)
}

// With Leave, a stream that a test lets go of is left alone, whenever garbage is
// collected.
func TestLeaveReclaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, nil)
		_, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		for range 5 {
			runtime.GC()
			time.Sleep(time.Minute)
		}
		require.Equal(t, 1, pool.Stats().Streams)
	})
}
