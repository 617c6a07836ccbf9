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
	"github.com/withobsrvr/sluice/interceptors"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// With all three configured, the pool, gRPC's service config and
// interceptors.Client, a call that the server fails goes out at most three times:
// a failure on the way is gRPC's to retry, a rejection with RetryInfo is the
// interceptors', and the pool retries nothing that a server has seen.
func TestRetriesHaveOneOwner(t *testing.T) {
	transport := status.New(codes.Unavailable, "the proxy lost its upstream")
	rejection, err := status.New(codes.Unavailable, "full").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	require.NoError(t, err)
	for name, failure := range map[string]*status.Status{"transport": transport, "rejection": rejection} {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var attempts atomic.Int64
					fail := func(set func(metadata.MD)) error {
						attempts.Add(1)
						if failure == rejection { // tells gRPC to leave it to the interceptors
							set(metadata.Pairs("grpc-retry-pushback-ms", "-1"))
						}
						return failure.Err()
					}
					client, err := interceptors.NewClient(interceptors.ClientConfig{})
					require.NoError(t, err)
					_, pool := start(t, connpooltest.Behavior{NoHealth: true, Options: []grpc.ServerOption{
						grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
							return nil, fail(func(md metadata.MD) { _ = grpc.SetTrailer(ctx, md) })
						}),
						grpc.StreamInterceptor(func(_ any, s grpc.ServerStream, _ *grpc.StreamServerInfo, _ grpc.StreamHandler) error {
							return fail(s.SetTrailer)
						}),
					}}, func(c *connpool.Config) {
						c.MaxRetries = 3
						c.HealthCheckInterval = -1
						c.ServiceConfig = interceptors.ServiceConfig(interceptors.ServiceConfigOptions{
							MaxAttempts: 3, Services: []string{"sluice.test.Pool"},
						})
						c.DialOptions = append(c.DialOptions, client.DialOptions()...)
					})
					if kind == "unary" {
						err = connpooltest.Call(t.Context(), pool)
					} else {
						s, opened := connpooltest.OpenServerStream(t.Context(), pool)
						require.NoError(t, opened)
						_, err = connpooltest.ReadAll(s)
					}
					require.Equal(t, codes.Unavailable, status.Code(err))
					require.EqualValues(t, 3, attempts.Load())
					require.Zero(t, pool.Stats().Moved)
				})
			})
		}
	}
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
		no := func(_ context.Context, method string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
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

// A pool without a minimum costs nothing while nobody uses it.
func TestNoMinimum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) { c.MinConnections = -1 })
		time.Sleep(time.Minute)
		require.Zero(t, server.Counts().Dials)
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		require.Equal(t, 1, server.Counts().Open)
		time.Sleep(10 * time.Minute)
		require.Zero(t, server.Counts().Open)
		require.NoError(t, connpooltest.Call(t.Context(), pool))
	})
}

// The limit is read behind the handshake, of whatever credentials.
func TestSharedConfigIsNotChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{MaxStreams: 7})
		defer server.Stop()
		creds := insecure.NewCredentials()
		for range 2 {
			pool, err := connpool.New(connpooltest.Target, connpool.Config{Credentials: creds, DialOptions: server.DialOptions()})
			require.NoError(t, err)
			require.NoError(t, connpooltest.Call(t.Context(), pool))
			require.Equal(t, 7, pool.Stats().StreamLimit)
			require.NoError(t, pool.Close())
		}
	})
}
