package connpool_test

import (
	"context"
	"errors"
	"fmt"
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

func openMany(t *testing.T, cc grpc.ClientConnInterface, n int) (cancel func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	for i := range n {
		go func() {
			s, err := connpooltest.OpenServerStream(ctx, cc)
			if err == nil {
				_, err = connpooltest.ReadAll(s)
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("stream %d: %v", i, err)
			}
		}()
	}
	return cancel
}

// The server's own limit is read from the wire, whatever it is: no stream is ever
// started behind it.
func TestStreamLimitIsRead(t *testing.T) {
	for _, limit := range []int{1, 10, 37, 100, 250} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, pool := start(t, connpooltest.Behavior{MaxStreams: uint32(limit)}, func(c *connpool.Config) {
					c.MinConnections, c.MaxConnections = 1, 4
				})
				defer openMany(t, pool, 4*limit)()
				time.Sleep(time.Minute)
				st := pool.Stats()
				require.Equal(t, 4*limit, server.Counts().Running, "%+v", st)
				require.Zero(t, st.Waiting)

				defer openMany(t, pool, 7)() // they wait in the pool's queue, not in gRPC's
				time.Sleep(time.Minute)
				st = pool.Stats()
				require.Equal(t, limit, st.StreamLimit)
				require.Equal(t, 7, st.Waiting)
				require.Zero(t, st.Moved)
				server.Release()
				time.Sleep(time.Minute)
				require.Zero(t, pool.Stats().Waiting)
				require.Zero(t, pool.Stats().Streams)
			})
		})
	}
}

// A restarted server may allow more, or less.
func TestStreamLimitIsLearnedAgainAfterRestart(t *testing.T) {
	for _, limits := range [][2]int{{10, 100}, {100, 10}} {
		t.Run(fmt.Sprint(limits), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, pool := start(t, connpooltest.Behavior{MaxStreams: uint32(limits[0])}, func(c *connpool.Config) {
					c.MinConnections, c.MaxConnections = 1, 1
				})
				cancel := openMany(t, pool, limits[0]+5)
				time.Sleep(time.Minute)
				require.Equal(t, limits[0], server.Counts().Running)
				require.Equal(t, limits[0], pool.Stats().StreamLimit)
				cancel()
				synctest.Wait()
				server.Stop()
				server.Start(connpooltest.Behavior{MaxStreams: uint32(limits[1])})
				time.Sleep(time.Minute)
				defer openMany(t, pool, limits[1]+5)()
				time.Sleep(time.Minute)
				require.Equal(t, limits[1], server.Counts().Running)
				require.Equal(t, limits[1], pool.Stats().StreamLimit)
			})
		})
	}
}

// 400 long streams over a server limit of 100 all start, and a unary call
// through the control lane answers at once, as does one beside a full main lane.
func TestFourHundredStreamsAndAUnaryCall(t *testing.T) {
	for _, conns := range []int{4, 10} {
		t.Run(fmt.Sprint(conns), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, pool := start(t, connpooltest.Behavior{MaxStreams: 100}, func(c *connpool.Config) {
					c.MinConnections, c.MaxConnections = 1, conns
				})
				defer openMany(t, pool, 400)()
				time.Sleep(time.Second)
				require.Equal(t, 400, server.Counts().Running)
				began := time.Now()
				require.NoError(t, connpooltest.Call(connpool.WithLane(t.Context(), connpool.LaneControl), pool))
				require.Zero(t, time.Since(began), "it waits for no stream")
				require.Equal(t, 400, server.Counts().Running)
			})
		})
	}
}

func TestUnaryLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{MaxStreams: 100}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections = 1, 1
			c.Lanes = []connpool.Lane{{Name: connpool.LaneControl, Unary: true}}
		})
		defer openMany(t, pool, 100)()
		time.Sleep(time.Second)
		require.Equal(t, 100, server.Counts().Running)
		require.NoError(t, connpooltest.Call(t.Context(), pool))
		err := connpooltest.Call(connpool.WithLane(t.Context(), "controll"), pool)
		require.ErrorIs(t, err, connpool.ErrRejected)
		require.ErrorContains(t, err, "controll")
	})
}

// A server without a limit is not held to the assumed one.
func TestUnlimitedServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections = 1, 2
		})
		defer openMany(t, pool, 900)()
		time.Sleep(time.Second)
		require.Equal(t, 900, server.Counts().Running)
		require.Zero(t, pool.Stats().StreamLimit)
	})
}

func TestSaturation(t *testing.T) {
	fill := func(t *testing.T, change func(*connpool.Config)) (*connpooltest.Server, *connpool.Pool) {
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections, c.MaxStreamsPerConnection = 1, 1, 2
			change(c)
		})
		t.Cleanup(openMany(t, pool, 2))
		time.Sleep(time.Second)
		require.Equal(t, 2, server.Counts().Running)
		return server, pool
	}
	t.Run("fail fast", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, pool := fill(t, func(c *connpool.Config) { c.QueueSize = -1 })
			err := connpooltest.Call(t.Context(), pool)
			var e *connpool.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, connpool.ReasonSaturated, e.Reason)
			require.EqualValues(t, 1, pool.Stats().Rejected[connpool.ReasonSaturated])
		})
	})
	t.Run("queue, in order, bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server, pool := fill(t, func(c *connpool.Config) { c.QueueSize = 3 })
			waits := pool.Stats().Waits // both streams, for the first connection
			var order []int
			var mu sync.Mutex
			for i := range 3 {
				go func() {
					if err := connpooltest.Call(t.Context(), pool); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					order = append(order, i)
				}()
				time.Sleep(time.Second)
			}
			require.ErrorIs(t, connpooltest.Call(t.Context(), pool), connpool.ErrRejected, "the queue is full")
			require.Equal(t, 3, pool.Stats().Waiting)
			server.Release()
			synctest.Wait()
			st := pool.Stats()
			require.EqualValues(t, waits+3, st.Waits)
			require.Len(t, order, 3)
			require.EqualValues(t, 3, st.WaitBuckets[len(st.WaitBuckets)-1])
			require.Zero(t, st.Waiting)
		})
	})
	t.Run("a waiter's deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, pool := fill(t, func(*connpool.Config) {})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := connpooltest.Call(ctx, pool)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			var e *connpool.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, time.Second, e.Waited)
			require.Zero(t, pool.Stats().Waiting)
		})
	})
}

// No call is forgotten in the queue: many more callers than places, some of which
// give up.
func TestQueueServesEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{Slow: time.Millisecond}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections, c.MaxStreamsPerConnection = 1, 2, 2
		})
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for range 30 {
					ctx, cancel := context.WithCancel(t.Context())
					if i%4 == 0 { // gives up, mostly in the queue
						ctx, cancel = context.WithTimeout(t.Context(), 3*time.Millisecond)
					}
					if err := connpooltest.Call(ctx, pool); err != nil && i%4 != 0 {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		st := pool.Stats()
		require.Zero(t, st.Streams)
		require.Zero(t, st.Waiting)
		require.Equal(t, 4, st.StreamCapacity)
	})
}

// A lane that has no connection yet does not stand behind the growth of another.
func TestControlLaneOpensWhileTheMainOneGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			MinConnections: 1, MaxStreamsPerConnection: 1, Credentials: insecure.NewCredentials(),
			DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				select {
				case <-time.After(time.Second):
					return server.Dial(ctx, address)
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			})},
		})
		require.NoError(t, err)
		defer pool.Close()
		defer openMany(t, pool, 10)()
		time.Sleep(3500 * time.Millisecond)
		began := time.Now()
		require.NoError(t, connpooltest.Call(connpool.WithLane(t.Context(), connpool.LaneControl), pool))
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
	})
}

// A call that its caller cancels in the queue ends as gRPC would end it, and
// keeps the caller's own words.
func TestCancelledInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections, c.MaxStreamsPerConnection = 1, 1, 1
		})
		defer openMany(t, pool, 1)()
		synctest.Wait()
		mine := errors.New("the user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(mine) })
		err := connpooltest.Call(ctx, pool)
		require.Equal(t, codes.Canceled, status.Code(err))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, mine)
		ctx, stop := context.WithTimeoutCause(t.Context(), time.Second, mine)
		defer stop()
		err = connpooltest.Call(ctx, pool)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.ErrorIs(t, err, mine)
	})
}

const tokenTime = 3 * time.Second

// slowToken takes its time for each call, as a token source does now and then.
type slowToken struct{}

func (slowToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	select {
	case <-time.After(tokenTime):
		return map[string]string{"authorization": "Bearer t"}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (slowToken) RequireTransportSecurity() bool { return false }

// A call that waits for its credentials does not wait for a stream: it says
// nothing about the server's limit, wherever the credentials come from and however
// slow they are. A limit that is there is known all the same.
func TestSlowCredentialsAreNoLimit(t *testing.T) {
	withToken := func(opts []grpc.CallOption) []grpc.CallOption {
		return append(opts[:len(opts):len(opts)], grpc.PerRPCCredentials(slowToken{}))
	}
	for _, limit := range []int{0, 4} {
		for _, where := range []string{"connection", "call", "interceptor"} {
			t.Run(fmt.Sprintf("limit %d, %s", limit, where), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var opts []grpc.CallOption
					server, pool := start(t, connpooltest.Behavior{MaxStreams: uint32(limit)}, func(c *connpool.Config) {
						c.MinConnections, c.MaxConnections = 1, 1
						switch where {
						case "connection":
							c.DialOptions = append(c.DialOptions, grpc.WithPerRPCCredentials(slowToken{}))
						case "call":
							opts = withToken(nil)
						case "interceptor":
							c.DialOptions = append(c.DialOptions, grpc.WithStreamInterceptor(
								func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
									next grpc.Streamer, o ...grpc.CallOption,
								) (grpc.ClientStream, error) {
									return next(ctx, d, cc, m, withToken(o)...)
								}))
						}
					})
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					for n := range 4 {
						began := time.Now()
						s, err := connpooltest.OpenServerStream(ctx, pool, opts...)
						require.NoError(t, err)
						require.NoError(t, connpooltest.Recv(s))
						require.Equal(t, n+1, server.Counts().Running)
						require.Equal(t, tokenTime, time.Since(began))
					}
					st := pool.Stats()
					require.Equal(t, limit, st.StreamLimit)
					require.Zero(t, st.Moved)
				})
			})
		}
	}
}

// On a busy machine calls may stand anywhere in the process for seconds. However
// many clients do, a server without a limit keeps none, and no call is moved.
func TestStarvationIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const clients = 30
		var begun atomic.Int64
		server, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.MinConnections, c.MaxConnections = 1, 1
			// Some calls get out, and the others stand still between the pick of a
			// transport and their stream, for longer than any threshold would bear.
			stall := tokenFunc(func() {
				if begun.Add(1)%clients >= 14 {
					time.Sleep(5 * time.Second)
				}
			})
			c.DialOptions = append(c.DialOptions, grpc.WithStreamInterceptor(
				func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
					next grpc.Streamer, o ...grpc.CallOption,
				) (grpc.ClientStream, error) {
					return next(ctx, d, cc, m, append(o, grpc.PerRPCCredentials(stall))...)
				}))
			c.HealthCheckInterval = -1
		})
		for range 4 {
			cancel := openMany(t, pool, clients)
			time.Sleep(time.Minute)
			require.Equal(t, clients, server.Counts().Running)
			cancel()
			synctest.Wait()
		}
		st := pool.Stats()
		require.Zero(t, st.StreamLimit)
		require.Zero(t, st.Moved)
		require.Zero(t, st.Waiting)
	})
}

// Streams that run on after GOAWAY take no place of the new transport's limit.
func TestLimitCountsTheCurrentTransportAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, pool := start(t, connpooltest.Behavior{MaxStreams: 10, MaxAge: time.Minute, AgeGrace: 3 * time.Minute},
			func(c *connpool.Config) { c.MinConnections, c.MaxConnections = 1, 1 })
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		open := func() {
			for range 10 {
				s, err := connpooltest.OpenServerStream(ctx, pool)
				require.NoError(t, err)
				require.NoError(t, connpooltest.Recv(s))
				go func() { _, _ = connpooltest.ReadAll(s) }() // to the end that the server gives it
			}
		}
		open()
		time.Sleep(70 * time.Second) // GOAWAY, and a new transport
		open()
		st := pool.Stats()
		require.Equal(t, 20, server.Counts().Running)
		require.Equal(t, 20, st.StreamCapacity)
		require.Equal(t, 10, st.StreamLimit)
		require.Equal(t, 1, st.TotalConnections)
		time.Sleep(4 * time.Minute) // the server has ended both
		require.Equal(t, 10, pool.Stats().StreamCapacity)
	})
}

// tokenFunc runs between the pick of a transport and the wait for a stream.
type tokenFunc func()

func (f tokenFunc) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	f()
	return nil, nil
}

func (tokenFunc) RequireTransportSecurity() bool { return false }

// When a transport goes while a stream is being made on it, gRPC begins an
// attempt that it never ends. That one neither is a call that waits, nor keeps
// its connection from being closed.
func TestAttemptThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := connpooltest.NewServer(connpooltest.Behavior{})
		defer server.Stop()
		var wire net.Conn
		var once sync.Once
		dial := func(ctx context.Context, address string) (_ net.Conn, err error) {
			wire, err = server.Dial(ctx, address)
			return wire, err
		}
		cut := tokenFunc(func() {
			once.Do(func() {
				_ = wire.Close()
				time.Sleep(time.Millisecond)
			})
		})
		pool, err := connpool.New(connpooltest.Target, connpool.Config{
			Credentials:    insecure.NewCredentials(),
			DialOptions:    append(server.DialOptions(), grpc.WithContextDialer(dial), grpc.WithPerRPCCredentials(cut)),
			MinConnections: 1, MaxConnections: 1, HealthCheckInterval: -1,
		})
		require.NoError(t, err)
		defer pool.Close()
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		require.Equal(t, 2, server.Counts().Accepted)
		time.Sleep(time.Minute)
		require.Zero(t, pool.Stats().StreamLimit)
		server.Release()
		_, err = connpooltest.ReadAll(s)
		require.NoError(t, err)
		began := time.Now()
		require.NoError(t, pool.Shutdown(t.Context()))
		require.Zero(t, time.Since(began))
	})
}
