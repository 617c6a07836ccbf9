package connpool_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc/credentials/insecure"
)

// start returns a server and a pool on it, both stopped when the test ends.
// In a bubble, t is the bubble's.
func start(
	t *testing.T, b connpooltest.Behavior, change func(*connpool.Config),
) (*connpooltest.Server, *connpool.Pool) {
	t.Helper()
	server := connpooltest.NewServer(b)
	cfg := connpool.Config{
		Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(), Abandoned: connpool.Leave,
	}
	if change != nil {
		change(&cfg)
	}
	pool, err := connpool.New(connpooltest.Target, cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, pool.Close())
		server.Stop()
	})
	return server, pool
}

func TestPoolOpensTheMinimumAndCarriesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, nil)
		require.NoError(t, connpooltest.Call(t.Context(), pool), "the first call waits for the first connection")
		synctest.Wait()
		st := pool.Stats()
		require.Equal(t, 2, st.TotalConnections)
		require.Equal(t, 2, st.HealthyConnections)
		require.Equal(t, 2, st.IdleConnections)
		require.EqualValues(t, 1, st.TotalUseCount)
		require.Equal(t, 2, server.Counts().Open)

		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		require.Equal(t, 1, pool.Stats().Streams)
		time.Sleep(time.Hour)
		require.Equal(t, 1, pool.Stats().Streams)
		require.GreaterOrEqual(t, pool.Stats().OldestStream, time.Hour)
		server.Release()
		_, err = connpooltest.ReadAll(s)
		require.NoError(t, err)
		require.Zero(t, pool.Stats().Streams)
	})
}

func TestShutdownWaitsForStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, nil)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		time.AfterFunc(time.Minute, server.Release)
		read := make(chan error, 1)
		go func() { _, err := connpooltest.ReadAll(s); read <- err }()
		began := time.Now()
		require.NoError(t, pool.Shutdown(t.Context()))
		require.GreaterOrEqual(t, time.Since(began), time.Minute)
		require.NoError(t, <-read)

		err = connpooltest.Call(context.Background(), pool)
		require.ErrorIs(t, err, connpool.ErrClosed)
		require.ErrorIs(t, err, connpool.ErrRejected)
		_, err = connpooltest.OpenServerStream(context.Background(), pool)
		require.ErrorIs(t, err, connpool.ErrClosed)
	})
}
