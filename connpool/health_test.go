package connpool_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A server that does not serve gets no new calls after a grace; its streams go
// on; it is taken back by itself.
func TestNotServingIsEjectedAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, nil)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		synctest.Wait()
		server.Health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		time.Sleep(2 * time.Minute)
		st := pool.Stats()
		require.Equal(t, 2, st.Ejected)
		require.Zero(t, st.HealthyConnections)
		require.Equal(t, 1, st.Streams)
		require.Zero(t, st.Drains, "it answers: nothing to replace")
		err = connpooltest.Call(t.Context(), pool)
		require.ErrorIs(t, err, connpool.ErrRefused)
		require.ErrorContains(t, err, "says that it is not serving", "no way around it over a new connection")

		server.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
		require.NoError(t, connpooltest.Call(t.Context(), pool, grpc.WaitForReady(true)), "it waits for the next check")
		server.Release()
		n, err := connpooltest.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		time.Sleep(time.Minute)
		require.GreaterOrEqual(t, pool.Stats().HealthyConnections, 2)
	})
}

func TestAMomentOfNotServingIsForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) { c.MinConnections = 1 })
		synctest.Wait()
		for range 100 { // long enough to be seen by one check, and by no second
			server.Health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
			time.Sleep(400 * time.Millisecond)
			server.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
			time.Sleep(10 * time.Second)
		}
		require.Zero(t, pool.Stats().Ejections)
	})
}

// A server without a health service is healthy as long as it is connected, and
// is left in peace.
func TestServerWithoutHealthService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{NoHealth: true}, nil)
		time.Sleep(time.Hour)
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		require.Zero(t, pool.Stats().Ejections)
		require.Equal(t, 2, pool.Stats().HealthyConnections)
	})
}

// A full connection is not asked, so that it is not taken for a sick one.
func TestFullConnectionIsNotEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{MaxStreams: 5}, func(c *connpool.Config) { c.MinConnections, c.MaxConnections = 1, 1 })
		defer openMany(t, pool, 8)()
		time.Sleep(time.Hour)
		require.Equal(t, 5, server.Counts().Running)
		require.Zero(t, pool.Stats().Ejections)
	})
}

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{FailEvery: 1}, func(c *connpool.Config) {
			c.Breaker = connpool.Breaker{Failures: 3, OpenFor: 10 * time.Second, Probes: 2}
			c.HealthCheckInterval = -1
		})
		call := func() error { return connpooltest.Call(t.Context(), pool) }
		for range 3 {
			require.Equal(t, connpool.BreakerClosed, pool.Stats().Breaker)
			require.Equal(t, codes.Unavailable, status.Code(call()))
		}
		require.Equal(t, connpool.BreakerOpened, pool.Stats().Breaker)
		seen := server.Counts().Unary
		var e *connpool.Error
		require.ErrorAs(t, call(), &e)
		require.Equal(t, connpool.ReasonBreakerOpen, e.Reason)
		require.Equal(t, 10*time.Second, e.RetryAfter)
		require.ErrorContains(t, e.Cause, "failed by the test")
		require.Equal(t, seen, server.Counts().Unary, "the endpoint is spared")

		time.Sleep(10 * time.Second)
		require.Equal(t, connpool.BreakerHalfOpen, pool.Stats().Breaker)
		require.Equal(t, codes.Unavailable, status.Code(call()), "a probe")
		require.ErrorAs(t, call(), &e)

		server.Stop()
		server.Start(connpooltest.Behavior{})
		time.Sleep(time.Minute)
		require.NoError(t, call())
		require.Equal(t, connpool.BreakerHalfOpen, pool.Stats().Breaker)
		require.NoError(t, call())
		require.Equal(t, connpool.BreakerClosed, pool.Stats().Breaker)
		require.EqualValues(t, 2, pool.Stats().BreakerOpen)
	})
}

// Only what the server never saw is sent again without being asked to.
func TestRetryOnlyWhatIsSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{FailEvery: 1}, nil)
		require.Equal(t, codes.Unavailable, status.Code(connpooltest.Call(t.Context(), pool)))
		require.Equal(t, 1, server.Counts().Unary, "it may have had an effect")
		require.Zero(t, pool.Stats().Retries)
	})
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{FailEvery: 1}, func(c *connpool.Config) {
			c.Retry = func(method string, err error) bool {
				return method == connpooltest.Unary && status.Code(err) == codes.Unavailable
			}
		})
		require.Equal(t, codes.Unavailable, status.Code(connpooltest.Call(t.Context(), pool)))
		require.Equal(t, 1+connpool.DefaultMaxRetries, server.Counts().Unary)
		require.EqualValues(t, connpool.DefaultMaxRetries, pool.Stats().Retries)
	})
	const mine = "no"
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.DialOptions = append(c.DialOptions, grpc.WithUnaryInterceptor(func(_ context.Context, method string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
				if method == connpooltest.Unary {
					calls++
				}
				return status.Error(codes.Unavailable, mine)
			}))
		})
		require.ErrorContains(t, connpooltest.Call(t.Context(), pool), mine)
		require.Equal(t, 1, calls, "an interceptor's no is final")
	})
}

func TestRetryHonoursPushback(t *testing.T) {
	for pushback, want := range map[string]time.Duration{"1500": 4500 * time.Millisecond, "-1": 0, "soon": 0} {
		synctest.Test(t, func(t *testing.T) {
			answer := func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
				_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", pushback))
				return nil, status.Error(codes.Unavailable, "later")
			}
			_, pool := start(t, connpooltest.Behavior{Options: []grpc.ServerOption{grpc.UnaryInterceptor(answer)}}, func(c *connpool.Config) {
				c.Retry = func(string, error) bool { return true }
				c.HealthCheckInterval = -1
			})
			began := time.Now()
			require.Error(t, connpooltest.Call(t.Context(), pool))
			require.Equal(t, want, time.Since(began), pushback)
		})
	}
}

func TestManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		m, err := connpool.NewManager(connpool.Config{DialOptions: server.DialOptions()},
			connpool.Override{Endpoint: "passthrough:///b", Change: func(c *connpool.Config) { c.MinConnections = 4 }})
		require.NoError(t, err)
		defer m.Close()
		a, err := m.Get("passthrough:///a")
		require.NoError(t, err)
		again, err := m.Get("passthrough:///a")
		require.NoError(t, err)
		require.Same(t, a, again)
		_, err = m.Get("passthrough:///b")
		require.NoError(t, err)
		_, err = m.Get("")
		require.Error(t, err)
		time.Sleep(time.Second)
		st := m.Stats()
		require.Len(t, st, 2)
		require.Equal(t, []string{"passthrough:///a", "passthrough:///b"}, []string{st[0].Endpoint, st[1].Endpoint})
		require.Equal(t, []int{2, 4}, []int{st[0].HealthyConnections, st[1].HealthyConnections})
		require.NoError(t, a.Close())
		again, err = m.Get("passthrough:///a")
		require.NoError(t, err)
		require.NotSame(t, a, again)
		require.NoError(t, m.Close())
		_, err = m.Get("passthrough:///a")
		require.ErrorIs(t, err, connpool.ErrClosed)
		synctest.Wait()
		require.Zero(t, server.Counts().Open)
	})
	_, err := connpool.NewManager(connpool.Config{MaxConnections: 1, MinConnections: 2}, connpool.Override{})
	require.ErrorContains(t, err, "MinConnections is 2")
	require.ErrorContains(t, err, "overrides[0]")
	_, err = connpool.NewManager(connpool.Config{}, connpool.Override{Endpoint: "a", Change: func(c *connpool.Config) { c.QueueSize = -1 }})
	require.ErrorContains(t, err, `"a": QueueSize is -1`, "not only when it is first used")
}

// A long stream that probes says so with its first message, and a refusal of the
// pool's own is no outcome at all.
func TestBreakerProbedByAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{FailEvery: 1}, func(c *connpool.Config) {
			c.Breaker = connpool.Breaker{Failures: 1, OpenFor: time.Second}
			c.MinConnections, c.MaxConnections, c.MaxStreamsPerConnection, c.Saturation = 1, 1, 1, connpool.FailFast
		})
		require.Error(t, connpooltest.Call(t.Context(), pool))
		time.Sleep(time.Second)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, connpool.BreakerHalfOpen, pool.Stats().Breaker)
		require.NoError(t, connpooltest.Recv(s))
		require.Equal(t, connpool.BreakerClosed, pool.Stats().Breaker)
		var e *connpool.Error
		require.ErrorAs(t, connpooltest.Call(t.Context(), pool), &e)
		require.Equal(t, connpool.ReasonSaturated, e.Reason)
		require.Equal(t, connpool.BreakerClosed, pool.Stats().Breaker)
	})
}

// A probe that says nothing for OpenFor, an upload say, gives its place to another.
func TestBreakerProbedByAnUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{FailEvery: 1}, func(c *connpool.Config) {
			c.Breaker = connpool.Breaker{Failures: 1, OpenFor: 10 * time.Second}
		})
		require.Error(t, connpooltest.Call(t.Context(), pool))
		time.Sleep(10 * time.Second)
		upload, err := connpooltest.OpenClientStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Send(upload))
		time.Sleep(9 * time.Second)
		var e *connpool.Error
		_, err = connpooltest.OpenServerStream(t.Context(), pool)
		require.ErrorAs(t, err, &e)
		require.Equal(t, time.Second, e.RetryAfter, "until the next probe")
		time.Sleep(time.Second)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		require.Equal(t, connpool.BreakerClosed, pool.Stats().Breaker)
		require.NoError(t, upload.CloseSend())
		require.NoError(t, connpooltest.Recv(upload))
	})
}

func TestTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	server := connpooltest.NewServer(connpooltest.Behavior{
		Options: []grpc.ServerOption{grpc.Creds(credentials.NewServerTLSFromCert(&certified.TLS.Certificates[0]))},
	})
	defer server.Stop()
	pool, err := connpool.New("passthrough:///example.com", connpool.Config{
		TLS: &tls.Config{RootCAs: roots}, DialOptions: []grpc.DialOption{grpc.WithContextDialer(server.Dial)},
	})
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, connpooltest.Call(t.Context(), pool))

	stranger, err := connpool.New("passthrough:///example.com", connpool.Config{
		TLS: &tls.Config{RootCAs: x509.NewCertPool()}, DialOptions: []grpc.DialOption{grpc.WithContextDialer(server.Dial)},
	})
	require.NoError(t, err)
	defer stranger.Close()
	require.ErrorContains(t, connpooltest.Call(t.Context(), stranger), "certificate")
}

// Without a health service too, a connection that went dead under a stream is
// found: new calls leave it, and keepalive ends the stream.
func TestHalfOpenUnderAStreamWithoutHealthService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{NoHealth: true}, func(c *connpool.Config) { c.MinConnections = 1 })
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		time.Sleep(2 * time.Minute) // the server is quiet, and lives
		require.Zero(t, pool.Stats().Ejections)
		server.Silence(true)
		server.Silence(false)
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- connpooltest.Recv(s) }()
		time.Sleep(2 * time.Minute)
		require.EqualValues(t, 1, pool.Stats().Ejections)
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		require.Equal(t, codes.Unavailable, status.Code(<-ended))
		require.Less(t, time.Since(began), 7*time.Minute)
	})
}

// The health check measures the way to the server and back.
func TestRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			time.Sleep(7 * time.Millisecond)
			return handler(ctx, req)
		}
		_, pool := start(t, connpooltest.Behavior{Options: []grpc.ServerOption{grpc.ChainUnaryInterceptor(slow)}}, nil)
		synctest.Wait()
		require.Zero(t, pool.Stats().RoundTrip, "nobody has asked yet")
		time.Sleep(time.Minute)
		st := pool.Stats()
		require.Equal(t, 7*time.Millisecond, st.RoundTrip)
		require.Equal(t, 7*time.Millisecond, st.Connections[0].RoundTrip)
	})
}
