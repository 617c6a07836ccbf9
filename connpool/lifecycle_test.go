package connpool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// After GOAWAY a stream goes on until the server's grace ends, and new calls
// find a new transport. Evicting what is not READY would have cut it.
func TestGoAwayLeavesStreamsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{MaxAge: time.Minute, AgeGrace: 10 * time.Minute}, nil)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		began := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- connpooltest.Recv(s) }()
		for time.Since(began) < 8*time.Minute {
			require.NoError(t, connpooltest.Call(t.Context(), pool))
			time.Sleep(7 * time.Second)
		}
		require.Empty(t, ended)
		require.GreaterOrEqual(t, server.Counts().Accepted, 6, "it was reconnected")
		require.Equal(t, 2, pool.Stats().HealthyConnections)
		require.Equal(t, codes.Unavailable, status.Code(<-ended), "the server's own end")
		require.Greater(t, time.Since(began), 10*time.Minute)
	})
}

func TestServerRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) { c.MinConnections = 3 })
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		time.Sleep(time.Second)
		server.Stop()
		time.Sleep(time.Minute)

		err := connpooltest.Call(t.Context(), pool)
		var e *connpool.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, connpool.ReasonUnreachable, e.Reason)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.ErrorContains(t, err, connpooltest.Target)
		require.ErrorContains(t, err, "connection refused by the test")
		require.ErrorContains(t, err, "next attempt in")
		require.Positive(t, e.RetryAfter)
		require.LessOrEqual(t, e.RetryAfter, 36*time.Second)
		dials := server.Counts().Dials
		require.Less(t, dials, 25, "attempts are spaced out, and one at a time for the whole pool")
		require.Error(t, pool.Stats().LastError)

		waited := make(chan error, 1)
		go func() { waited <- connpooltest.Call(t.Context(), pool, grpc.WaitForReady(true)) }()
		synctest.Wait()
		require.Empty(t, waited)
		server.Start(connpooltest.Behavior{})
		require.NoError(t, <-waited, "it waited for the server")
		time.Sleep(time.Minute)
		st := pool.Stats()
		require.Equal(t, 3, st.HealthyConnections)
		require.NoError(t, st.LastError)
	})
}

func TestUnreachableAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) { c.WaitForReady = true })
		server.Refuse(true)
		server.Stop()
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		err := connpooltest.Call(ctx, pool)
		require.Equal(t, time.Minute, time.Since(began))
		require.ErrorIs(t, err, connpool.ErrRejected)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.ErrorContains(t, err, "unreachable")
		require.ErrorContains(t, err, "connection refused by the test")
	})
}

// A connection that swallows everything is found by its health checks and
// replaced, and the stream on it ends then, with a status that may be retried and
// says why: not when keepalive finds out.
func TestHalfOpenConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) { c.Keepalive = -1 })
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		synctest.Wait()
		began, ended := time.Now(), make(chan error, 1)
		go func() { ended <- connpooltest.Recv(s) }()
		server.Silence(true)
		server.Silence(false) // for those that come
		err = <-ended
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.ErrorContains(t, err, "connpool: "+connpooltest.Target+": the server is connected, and does not answer")
		require.Less(t, time.Since(began), time.Minute+time.Second)
		require.Positive(t, pool.Stats().Ejections)
		time.Sleep(3*time.Minute - time.Since(began))
		st := pool.Stats()
		require.Equal(t, 2, st.HealthyConnections)
		require.EqualValues(t, 2, st.Ejections)
		require.EqualValues(t, 2, st.Closed["unhealthy"])
		require.Zero(t, st.Draining, "no stream holds the old one")
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		require.Zero(t, st.Streams)
	})
}

// The addresses behind a name change: new calls go to the new ones, a stream on
// the old one goes on.
func TestNameMovesToAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := connpooltest.NewServer(connpooltest.Behavior{}), connpooltest.NewServer(connpooltest.Behavior{})
		name := connpooltest.NewResolver()
		name.Set(old)
		pool, err := connpool.New(name.Target(), connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: name.DialOptions(),
		})
		require.NoError(t, err)
		defer func() { _ = pool.Close(); old.Stop(); next.Stop() }()
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		synctest.Wait()

		name.Set(next)
		time.Sleep(time.Second)
		for range 4 {
			require.NoError(t, connpooltest.Call(t.Context(), pool))
		}
		require.Equal(t, 4, next.Counts().Unary)
		require.Equal(t, 1, old.Counts().Running)
		old.Release()
		require.Equal(t, io.EOF, connpooltest.Recv(s))
	})
}

// Connections to one name spread over its servers, and a server that is added
// gets its share as connections age.
func TestConnectionsSpreadAndFollowAnAddedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var servers []*connpooltest.Server
		for range 3 {
			servers = append(servers, connpooltest.NewServer(connpooltest.Behavior{}))
		}
		name := connpooltest.NewResolver()
		name.Set(servers[:2]...)
		pool, err := connpool.New(name.Target(), connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: name.DialOptions(),
			MinConnections: 8, MaxAge: 10 * time.Minute, HealthCheckInterval: -1,
		})
		require.NoError(t, err)
		defer func() {
			_ = pool.Close()
			for _, s := range servers {
				s.Stop()
			}
		}()
		time.Sleep(time.Second)
		require.Positive(t, servers[0].Counts().Open)
		require.Positive(t, servers[1].Counts().Open)
		name.Set(servers...)
		time.Sleep(time.Second)
		require.Zero(t, servers[2].Counts().Open, "what works stays")
		for i := 0; servers[2].Counts().Open == 0; i++ {
			require.Less(t, i, 10)
			time.Sleep(10 * time.Minute)
		}
		require.Equal(t, 8, pool.Stats().HealthyConnections)
	})
}

// Age replaces connections, never at the cost of a stream, and never below the
// minimum though no new one can be opened: a peer lost its capacity for ever there.
func TestRecyclingSurvivesADialOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxAge = 4, 10*time.Minute
		})
		ids := map[int]bool{}
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		for i := range 600 {
			server.Refuse(i > 60 && i < 300)
			time.Sleep(10 * time.Second)
			st := pool.Stats()
			require.GreaterOrEqual(t, st.HealthyConnections, 4, "after %d0 s: %+v", i, st)
			require.LessOrEqual(t, st.TotalConnections, 6)
			for _, c := range st.Connections {
				ids[c.ID] = true
			}
		}
		st := pool.Stats()
		require.Greater(t, st.DialFailures, uint64(50))
		require.Greater(t, st.Closed["age"], uint64(12))
		require.LessOrEqual(t, len(ids), 8, "labels stay bounded: the minimum, and what drains, comes and closes")
		for _, c := range st.Connections {
			require.True(t, c.Age <= 12*time.Minute || c.State == "draining", "%+v", c)
		}
		server.Release()
		n, err := connpooltest.ReadAll(s)
		require.NoError(t, err)
		require.Equal(t, 1, n)
	})
}

func TestDrainDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxAge, c.DrainDeadline = 1, 10*time.Minute, time.Hour
		})
		began := time.Now()
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		_, err = connpooltest.ReadAll(s)
		require.Error(t, err)
		require.InDelta(t, 70*time.Minute, time.Since(began), float64(2*time.Minute))
		require.EqualValues(t, 1, pool.Stats().DrainsForced)
	})
}

// The pool grows before it is full, and shrinks when the load has gone for good.
func TestScaling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{MaxStreams: 10}, func(c *connpool.Config) {
			c.MaxStreamsPerConnection, c.MinConnections = 10, 1
		})
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 40 {
			s, err := connpooltest.OpenServerStream(ctx, pool)
			require.NoError(t, err)
			synctest.Wait()
			st := pool.Stats()
			require.Less(t, float64(st.Streams), 0.8*float64(st.StreamCapacity)+1, "stream %d: %+v", i, st)
			go func() { _, _ = connpooltest.ReadAll(s) }()
		}
		top := pool.Stats().HealthyConnections
		require.Equal(t, 6, top, "40 streams are no more than 0.8 of 60")
		cancel()
		time.Sleep(20 * time.Minute)
		st := pool.Stats()
		require.Equal(t, 1, st.TotalConnections, "%+v", st)
		require.EqualValues(t, 5, st.Closed["idle"]+st.Closed["load"])
		require.Equal(t, 1, server.Counts().Open)
	})
}

// A load that swings faster than the idle timeout does not make connections
// come and go.
func TestOscillatingLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MaxStreamsPerConnection, c.MinConnections = 10, 1
		})
		for range 60 {
			cancel := openMany(t, pool, 60)
			time.Sleep(time.Minute)
			cancel()
			time.Sleep(time.Minute)
		}
		st := pool.Stats()
		events := uint64(0)
		for _, byReason := range []map[string]uint64{st.Opened, st.Closed} {
			for _, n := range byReason {
				events += n
			}
		}
		require.LessOrEqual(t, events+st.Undrained, uint64(12), "%+v", st)
	})
}

// A draining connection is taken back before another is dialed.
func TestUndrainBeforeDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MaxStreamsPerConnection, c.MinConnections, c.IdleTimeout = 10, 1, time.Minute
		})
		var cancels []context.CancelFunc
		open := func(n int) {
			for range n {
				ctx, cancel := context.WithCancel(t.Context())
				cancels = append(cancels, cancel)
				_, err := connpooltest.OpenServerStream(ctx, pool)
				require.NoError(t, err)
				synctest.Wait()
			}
		}
		open(19) // over three connections
		require.Equal(t, 3, pool.Stats().HealthyConnections)
		for _, cancel := range cancels[1:14] {
			cancel()
		}
		time.Sleep(5 * time.Minute)
		st := pool.Stats()
		require.Positive(t, st.Draining, "%+v", st)
		opened := st.Opened["load"]
		open(14)
		st = pool.Stats()
		require.Positive(t, st.Undrained, "%+v", st)
		require.LessOrEqual(t, st.Opened["load"], opened+1)
		for _, cancel := range cancels {
			cancel()
		}
	})
}

// Calls race connections that are replaced all the time: not one is told that
// its connection is closing, and not one is lost.
func TestCallsAgainstRecycling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{Slow: time.Millisecond}, func(c *connpool.Config) {
			c.MinConnections, c.MaxAge, c.MaxRetries = 3, 10*time.Millisecond, -1
		})
		server.Release()
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 250 {
					if i%2 == 0 {
						if err := connpooltest.Call(t.Context(), pool); err != nil {
							t.Error(err)
						}
						continue
					}
					s, err := connpooltest.OpenServerStream(t.Context(), pool)
					if err == nil {
						_, err = connpooltest.ReadAll(s)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		var done atomic.Bool
		go func() { // Stats may be asked at any time
			for !done.Load() {
				pool.Stats()
				time.Sleep(time.Millisecond)
			}
		}()
		wg.Wait()
		done.Store(true)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		st := pool.Stats()
		require.EqualValues(t, 2000, st.TotalUseCount)
		require.Zero(t, st.Streams)
		require.Greater(t, st.Closed["age"], uint64(50))
	})
}

// A server that takes connections and never answers is unavailable. The dial's
// own timeout is not the caller's: a code that is not retried, and that a
// breaker does not count, would be wrong.
func TestSilentEndpointIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		server.Silence(true)
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(),
			Breaker: connpool.Breaker{Failures: 2, OpenFor: time.Minute},
		})
		require.NoError(t, err)
		defer pool.Close()
		for range 2 {
			began := time.Now()
			err = connpooltest.Call(t.Context(), pool)
			require.Equal(t, codes.Unavailable, status.Code(err))
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "no connection within 10s")
			require.LessOrEqual(t, time.Since(began), 10*time.Second)
			time.Sleep(time.Second)
		}
		require.Equal(t, "open", pool.Stats().Breaker)
	})
}

// Why a connection could not be opened long ago is no reason to reject the calls
// of today: those that come while a connection is being replaced wait for it.
func TestOldFailureIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		far := func(ctx context.Context, address string) (net.Conn, error) {
			time.Sleep(50 * time.Millisecond)
			return server.Dial(ctx, address)
		}
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			Credentials:    insecure.NewCredentials(),
			DialOptions:    append(server.DialOptions(), grpc.WithContextDialer(far)),
			MinConnections: 1, MaxConnections: 2, MaxStreamsPerConnection: 2,
		})
		require.NoError(t, err)
		defer pool.Close()
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		server.Refuse(true)
		cancel := openMany(t, pool, 2)
		time.Sleep(time.Second)
		require.Error(t, pool.Stats().LastError, "it wanted a second connection")
		cancel()
		time.Sleep(time.Hour)
		server.Refuse(false)
		server.Stop()
		server.Start(connpooltest.Behavior{})
		synctest.Wait()
		require.Equal(t, 1, pool.Stats().Connecting)
		require.NoError(t, connpooltest.Call(t.Context(), pool))
	})
}

// Shutdown does not wait for a dial that nobody needs any more.
func TestShutdownOfAnUnreachablePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		server.Silence(true)
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: server.DialOptions(),
		})
		require.NoError(t, err)
		time.Sleep(time.Second)
		began := time.Now()
		require.NoError(t, pool.Shutdown(t.Context()))
		require.Zero(t, time.Since(began))
	})
}

// A call that waits for a connection waits for any of the pool's, not for the
// one that it was given, when that one does not come back.
func TestWaitingCallLeavesALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		var wire net.Conn
		var once sync.Once
		dials := 0
		second := func(ctx context.Context, address string) (_ net.Conn, err error) {
			if dials++; dials == 2 { // the first connection's attempt to come back
				return nil, errors.New("its address is gone")
			}
			conn, err := server.Dial(ctx, address)
			if wire == nil {
				wire = conn
			}
			return conn, err
		}
		cut := tokenFunc(func() {
			once.Do(func() {
				_ = wire.Close()
				time.Sleep(time.Second)
			})
		})
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			Credentials: insecure.NewCredentials(),
			DialOptions: append(server.DialOptions(),
				grpc.WithContextDialer(second), grpc.WithPerRPCCredentials(cut)),
			MinConnections: 1, HealthCheckInterval: -1,
		})
		require.NoError(t, err)
		defer pool.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		require.NoError(t, connpooltest.Call(ctx, pool, grpc.WaitForReady(true)))
		require.Less(t, time.Since(began), 10*time.Second)
	})
}
