package connpool_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
	"github.com/withobsrvr/sluice/interceptors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Three machines could retry a call: the pool, gRPC's service config and
// interceptors.Client. With all of them on, a call that fails goes out three
// times, as with any one of them.
func TestRetriesHaveOneOwner(t *testing.T) {
	hinted, err := status.New(codes.Unavailable, "full").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	require.NoError(t, err)
	governor, err := interceptors.NewServer(interceptors.ServerConfig{
		Throttler: flowcontroltest.AlwaysRejects{RetryAfter: time.Second},
	})
	require.NoError(t, err)
	for name, answer := range map[string][]grpc.ServerOption{
		"a transport failed":        always(status.Error(codes.Unavailable, "the proxy lost its upstream")),
		"another server is full":    always(hinted.Err()),
		"a governed server is full": governor.ServerOptions(),
	} {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					pool, attempts := triplyRetried(t, answer)
					require.Equal(t, codes.Unavailable, status.Code(callOnce(t, pool, kind)))
					require.EqualValues(t, 3, attempts.Load())
					require.Zero(t, pool.Stats().Moved)
				})
			})
		}
	}
}

// Retries have a budget, whoever owns them: against a server that fails every
// call, most calls go out once.
func TestRetriesHaveABudget(t *testing.T) {
	const calls = 100
	governor, err := interceptors.NewServer(interceptors.ServerConfig{
		Throttler: flowcontroltest.AlwaysRejects{RetryAfter: time.Second},
	})
	require.NoError(t, err)
	for name, answer := range map[string][]grpc.ServerOption{
		"failed":   always(status.Error(codes.Unavailable, "the proxy lost its upstream")),
		"rejected": governor.ServerOptions(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool, attempts := triplyRetried(t, answer)
				for range calls {
					require.Error(t, connpooltest.Call(t.Context(), pool))
				}
				require.Less(t, attempts.Load(), int64(calls+calls/5))
				require.Zero(t, pool.Stats().Moved)
			})
		})
	}
}

// triplyRetried is a pool with every kind of retry on, and the number of
// attempts that reach its server.
func triplyRetried(t *testing.T, answer []grpc.ServerOption) (*connpool.Pool, *atomic.Int64) {
	attempts := new(atomic.Int64)
	client, err := interceptors.NewClient(interceptors.ClientConfig{})
	require.NoError(t, err)
	_, pool := start(t, connpooltest.Behavior{NoHealth: true, Options: append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
				attempts.Add(1)
				return next(ctx, req)
			}),
		grpc.ChainStreamInterceptor(
			func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
				attempts.Add(1)
				return next(srv, s)
			}),
	}, answer...)}, func(c *connpool.Config) {
		c.MaxRetries = 3
		c.HealthCheckInterval = -1
		c.ServiceConfig = interceptors.ServiceConfig(interceptors.ServiceConfigOptions{
			MaxAttempts: 3, Services: []string{"sluice.test.Pool"},
		})
		c.DialOptions = append(c.DialOptions, client.DialOptions()...)
	})
	return pool, attempts
}

// always answers every call with err.
func always(err error) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, err }),
		grpc.ChainStreamInterceptor(
			func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { return err }),
	}
}

func callOnce(t *testing.T, pool *connpool.Pool, kind string) error {
	if kind == "unary" {
		return connpooltest.Call(t.Context(), pool)
	}
	s, err := connpooltest.OpenServerStream(t.Context(), pool)
	require.NoError(t, err)
	_, err = connpooltest.ReadAll(s)
	return err
}

// What the server has seen is never sent again by the pool.
func TestPoolRetriesNothingThatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{FailEvery: 1}, nil)
		require.Equal(t, codes.Unavailable, status.Code(connpooltest.Call(t.Context(), pool)))
		require.Equal(t, 1, server.Counts().Unary, "it may have had an effect")
		require.Zero(t, pool.Stats().Moved)
	})
	const mine = "no"
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		no := func(
			_ context.Context, method string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption,
		) error {
			if method == connpooltest.Unary {
				calls++
			}
			return status.Error(codes.Unavailable, mine)
		}
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.DialOptions = append(c.DialOptions, grpc.WithUnaryInterceptor(no))
		})
		require.ErrorContains(t, connpooltest.Call(t.Context(), pool), mine)
		require.Equal(t, 1, calls, "an interceptor's no is final")
	})
	synctest.Test(t, func(t *testing.T) {
		tokens := 0
		_, pool := start(t, connpooltest.Behavior{NoHealth: true}, func(c *connpool.Config) {
			c.HealthCheckInterval = -1
			c.DialOptions = append(c.DialOptions, grpc.WithPerRPCCredentials(brokenTokens{&tokens}))
		})
		require.ErrorContains(t, connpooltest.Call(t.Context(), pool), "no token")
		require.Equal(t, 1, tokens, "another connection gets no token either")
	})
}

type brokenTokens struct{ asked *int }

func (b brokenTokens) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	*b.asked++
	return nil, status.Error(codes.Unavailable, "no token")
}

func (brokenTokens) RequireTransportSecurity() bool { return false }

// The limit is read behind the handshake, of whatever credentials.
func TestSharedConfigIsNotChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{MaxStreams: 7})
		defer server.Stop()
		creds := insecure.NewCredentials()
		for range 2 {
			pool, err := connpool.New(connpooltest.Target, connpool.Config{
				Credentials: creds, DialOptions: server.DialOptions(),
			})
			require.NoError(t, err)
			require.NoError(t, connpooltest.Call(t.Context(), pool))
			require.Equal(t, 7, pool.Stats().StreamLimit)
			require.NoError(t, pool.Close())
		}
	})
}
