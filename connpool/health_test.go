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
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
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
		require.Zero(t, st.Closed["unhealthy"], "it answers: nothing to replace")
		require.Zero(t, st.Draining)
		err = connpooltest.Call(t.Context(), pool)
		require.ErrorIs(t, err, connpool.ErrRejected)
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
		server, pool := start(t, connpooltest.Behavior{MaxStreams: 5}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections = 1, 1
		})
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
			require.Equal(t, "closed", pool.Stats().Breaker)
			require.Equal(t, codes.Unavailable, status.Code(call()))
		}
		require.Equal(t, "open", pool.Stats().Breaker)
		seen := server.Counts().Unary
		var e *connpool.Error
		require.ErrorAs(t, call(), &e)
		require.Equal(t, connpool.ReasonBreakerOpen, e.Reason)
		require.Equal(t, 10*time.Second, e.RetryAfter)
		require.ErrorContains(t, e.Cause, "failed by the test")
		require.Equal(t, seen, server.Counts().Unary, "the endpoint is spared")

		time.Sleep(10 * time.Second)
		require.Equal(t, "half_open", pool.Stats().Breaker)
		require.Equal(t, codes.Unavailable, status.Code(call()), "a probe")
		require.ErrorAs(t, call(), &e)

		server.Stop()
		server.Start(connpooltest.Behavior{})
		time.Sleep(time.Minute)
		require.NoError(t, call())
		require.Equal(t, "half_open", pool.Stats().Breaker)
		require.NoError(t, call())
		require.Equal(t, "closed", pool.Stats().Breaker)
		require.EqualValues(t, 2, pool.Stats().Rejected[connpool.ReasonBreakerOpen])
	})
}

func TestManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		m, err := connpool.NewManager(
			connpool.Config{Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions()},
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
		m.Remove("passthrough:///a")
		m.Remove("passthrough:///a")
		require.Len(t, m.Stats(), 1, "an endpoint that is gone takes its goroutines and series along")
		require.ErrorIs(t, connpooltest.Call(t.Context(), again), connpool.ErrClosed)
		_, err = m.Get("passthrough:///a")
		require.NoError(t, err)
		require.NoError(t, m.Close())
		_, err = m.Get("passthrough:///a")
		require.ErrorIs(t, err, connpool.ErrClosed)
		synctest.Wait()
		require.Zero(t, server.Counts().Open)
	})
	_, err := connpool.NewManager(connpool.Config{MaxConnections: 1, MinConnections: 2}, connpool.Override{})
	require.ErrorContains(t, err, "MinConnections is 2")
	require.ErrorContains(t, err, "overrides[0]")
	_, err = connpool.NewManager(connpool.Config{}, connpool.Override{
		Endpoint: "a", Change: func(c *connpool.Config) { c.ConnectionTimeout = -1 },
	})
	require.ErrorContains(t, err, `"a": ConnectionTimeout is -1`, "not only when it is first used")
}

// A long stream that probes says so with its first message, and a rejection of the
// pool's own is no outcome at all.
func TestBreakerProbedByAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{FailEvery: 1}, func(c *connpool.Config) {
			c.Breaker = connpool.Breaker{Failures: 1, OpenFor: time.Second}
			c.MinConnections, c.MaxConnections, c.MaxStreamsPerConnection, c.QueueSize = 1, 1, 1, -1
		})
		require.Error(t, connpooltest.Call(t.Context(), pool))
		time.Sleep(time.Second)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.Equal(t, "half_open", pool.Stats().Breaker)
		require.NoError(t, connpooltest.Recv(s))
		require.Equal(t, "closed", pool.Stats().Breaker)
		var e *connpool.Error
		require.ErrorAs(t, connpooltest.Call(t.Context(), pool), &e)
		require.Equal(t, connpool.ReasonSaturated, e.Reason)
		require.Equal(t, "closed", pool.Stats().Breaker)
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
		require.Equal(t, "closed", pool.Stats().Breaker)
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

// A server that says NOT_SERVING is treated alike with room for another
// connection and at the maximum: a call is rejected at once, with the reason; one
// that waits for ready waits, and is answered soon after the server serves again.
func TestNotServingHasOneRule(t *testing.T) {
	for name, most := range map[string]int{"with room": 3, "at the maximum": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
					c.MinConnections, c.MaxConnections = 1, most
				})
				require.NoError(t, connpooltest.Call(t.Context(), pool))
				server.Health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
				time.Sleep(2 * time.Minute)
				require.Zero(t, pool.Stats().HealthyConnections)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				for range 20 { // also while a dial is due, running, or just failed
					began := time.Now()
					err := connpooltest.Call(ctx, pool)
					require.ErrorIs(t, err, connpool.ErrRejected)
					require.Equal(t, codes.Unavailable, status.Code(err))
					require.ErrorContains(t, err, "unreachable")
					require.ErrorContains(t, err, "says that it is not serving")
					require.Less(t, time.Since(began), time.Second)
					time.Sleep(7 * time.Second)
				}
				waited := make(chan error, 1)
				go func() { waited <- connpooltest.Call(ctx, pool, grpc.WaitForReady(true)) }()
				time.Sleep(10 * time.Minute)
				require.Empty(t, waited)
				server.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
				began := time.Now()
				require.NoError(t, <-waited)
				require.Less(t, time.Since(began), 10*time.Second)
			})
		})
	}
}

// The calls that are waiting when the last connection is ejected follow the same rule.
func TestEjectionRejectsTheCallsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections, c.MaxStreamsPerConnection = 1, 1, 2
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		openMany(t, pool, 1)
		s, err := connpooltest.OpenServerStream(ctx, pool)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 2, pool.Stats().Streams)
		waited := make(chan error, 1)
		go func() { waited <- connpooltest.Call(t.Context(), pool) }()
		time.Sleep(time.Second)
		server.Health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		time.Sleep(time.Minute) // full, so it is not asked
		require.Empty(t, waited)
		require.NoError(t, connpooltest.Recv(s))
		cancel() // the place goes to the call that waits
		require.NoError(t, <-waited)
		time.Sleep(2 * time.Minute)
		require.Equal(t, 1, pool.Stats().Ejected)
		require.ErrorContains(t, connpooltest.Call(t.Context(), pool), "says that it is not serving")
	})
}

// A server that answers no health check but still sends on its streams is slow,
// not dead: its connection takes no new calls, and its streams go on.
func TestSlowHealthCheckEndsNoStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			<-ctx.Done()
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		_, pool := start(t, connpooltest.Behavior{
			Messages: 1000, Slow: time.Second, Options: []grpc.ServerOption{grpc.UnaryInterceptor(stuck)},
		}, func(c *connpool.Config) { c.MinConnections, c.MaxConnections = 1, 1 })
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		for range 900 {
			require.NoError(t, connpooltest.Recv(s))
		}
		require.Positive(t, pool.Stats().Ejections)
	})
}
