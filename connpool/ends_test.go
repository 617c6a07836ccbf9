package connpool_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Every way in which a stream can end gives its place back exactly once. gRPC's
// OnFinish alone had not fired on seven of these fifteen when the call returned.
func TestEveryEndReleasesOnce(t *testing.T) {
	errMine := errors.New("an interceptor says no")
	interceptor := func(i grpc.StreamClientInterceptor) func(*connpool.Config) {
		return func(c *connpool.Config) { c.DialOptions = append(c.DialOptions, grpc.WithStreamInterceptor(i)) }
	}
	type env struct {
		*testing.T
		server *connpooltest.Server
		pool   *connpool.Pool
	}
	open := func(e env, ctx context.Context) grpc.ClientStream {
		s, err := connpooltest.OpenServerStream(ctx, e.pool)
		require.NoError(e, err)
		require.NoError(e, connpooltest.Recv(s))
		return s
	}
	cases := map[string]struct {
		behavior connpooltest.Behavior
		change   func(*connpool.Config)
		run      func(e env)
	}{
		"read to EOF": {run: func(e env) {
			s := open(e, e.Context())
			e.server.Release()
			require.Equal(e, io.EOF, connpooltest.Recv(s))
			require.Equal(e, io.EOF, connpooltest.Recv(s), "and once more")
		}},
		"context already cancelled": {run: func(e env) {
			ctx, cancel := context.WithCancel(e.Context())
			cancel()
			_, err := connpooltest.OpenServerStream(ctx, e.pool)
			require.Error(e, err)
		}},
		"connection lost": {run: func(e env) {
			s := open(e, e.Context())
			e.server.Stop()
			require.Equal(e, codes.Unavailable, status.Code(connpooltest.Recv(s)))
		}},
		"blocked on the stream limit to its deadline": {
			behavior: connpooltest.Behavior{MaxStreams: 1},
			change:   func(c *connpool.Config) { c.MaxConnections = 1 },
			run: func(e env) {
				ctx, cancel := context.WithCancel(e.Context())
				defer cancel()
				open(e, ctx)
				short, stop := context.WithTimeout(e.Context(), time.Second)
				defer stop()
				_, err := connpooltest.OpenServerStream(short, e.pool)
				require.Equal(e, codes.DeadlineExceeded, status.Code(err))
			},
		},
		"bad metadata": {run: func(e env) {
			ctx := metadata.AppendToOutgoingContext(e.Context(), "bad key", "v")
			_, err := connpooltest.OpenServerStream(ctx, e.pool)
			require.Equal(e, codes.Internal, status.Code(err))
		}},
		"bad compressor": {run: func(e env) {
			_, err := connpooltest.OpenServerStream(e.Context(), e.pool, grpc.UseCompressor("none such"))
			require.Equal(e, codes.Internal, status.Code(err))
		}},
		"server down": {run: func(e env) {
			require.NoError(e, connpooltest.Call(e.Context(), e.pool))
			e.server.Stop()
			synctest.Wait() // the client has noticed
			_, err := connpooltest.OpenServerStream(e.Context(), e.pool)
			require.Equal(e, codes.Unavailable, status.Code(err))
		}},
		"cancelled, never received": {run: func(e env) {
			ctx, cancel := context.WithCancel(e.Context())
			_, err := connpooltest.OpenServerStream(ctx, e.pool)
			require.NoError(e, err)
			cancel()
		}},
		"left alone until the context's end, server done": {run: func(e env) {
			ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
			defer cancel()
			e.server.Release()
			_, err := connpooltest.OpenServerStream(ctx, e.pool)
			require.NoError(e, err)
			time.Sleep(2 * time.Minute)
		}},
		"one message read, then left until the context's end": {run: func(e env) {
			ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
			defer cancel()
			open(e, ctx)
			time.Sleep(2 * time.Minute)
		}},
		"client stream closed, answer read": {run: func(e env) {
			s, err := connpooltest.OpenClientStream(e.Context(), e.pool)
			require.NoError(e, err)
			require.NoError(e, connpooltest.Send(s))
			require.NoError(e, s.CloseSend())
			require.NoError(e, connpooltest.Recv(s))
		}},
		"client stream closed, never received": {run: func(e env) {
			ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
			defer cancel()
			s, err := connpooltest.OpenClientStream(ctx, e.pool)
			require.NoError(e, err)
			require.NoError(e, s.CloseSend())
			time.Sleep(2 * time.Minute)
		}},
		"client stream sends until EOF, never received": {run: func(e env) {
			ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
			defer cancel()
			s, err := connpooltest.OpenClientStream(ctx, e.pool)
			require.NoError(e, err)
			e.server.Stop()
			for connpooltest.Send(s) == nil {
				time.Sleep(time.Second)
			}
			time.Sleep(2 * time.Minute)
		}},
		"interceptor fails after the stream was made": {
			change: interceptor(func(
				ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
				next grpc.Streamer, o ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				if _, err := next(ctx, d, cc, m, o...); err != nil {
					return nil, err
				}
				return nil, errMine
			}),
			run: func(e env) {
				_, err := connpooltest.OpenServerStream(e.Context(), e.pool)
				require.ErrorIs(e, err, errMine)
			},
		},
		"interceptor rejects": {
			change: interceptor(func(
				context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return nil, errMine
			}),
			run: func(e env) {
				_, err := connpooltest.OpenServerStream(e.Context(), e.pool)
				require.ErrorIs(e, err, errMine)
			},
		},
		"interceptor drops the call options, then EOF": {
			change: interceptor(func(
				ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
				next grpc.Streamer, _ ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return next(ctx, d, cc, m)
			}),
			run: func(e env) {
				s := open(e, e.Context())
				e.server.Release()
				require.Equal(e, io.EOF, connpooltest.Recv(s))
			},
		},
		"interceptor drops the call options, then cancel": {
			change: interceptor(func(
				ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
				next grpc.Streamer, _ ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return next(ctx, d, cc, m)
			}),
			run: func(e env) {
				ctx, cancel := context.WithCancel(e.Context())
				open(e, ctx)
				cancel()
			},
		},
		"interceptor panics": {
			change: interceptor(func(
				context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				panic(errMine)
			}),
			run: func(e env) {
				require.PanicsWithError(e, errMine.Error(), func() { _, _ = connpooltest.OpenServerStream(e.Context(), e.pool) })
			},
		},
		"unary": {run: func(e env) { require.NoError(e, connpooltest.Call(e.Context(), e.pool)) }},
		"unary to its deadline": {
			behavior: connpooltest.Behavior{Slow: time.Hour},
			run: func(e env) {
				ctx, cancel := context.WithTimeout(e.Context(), time.Second)
				defer cancel()
				require.Equal(e, codes.DeadlineExceeded, status.Code(connpooltest.Call(ctx, e.pool)))
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, pool := start(t, c.behavior, c.change)
				synctest.Wait()
				c.run(env{t, server, pool})
				synctest.Wait()
				require.Zero(t, pool.Stats().Streams, "places given back")
				require.Zero(t, server.Counts().Running, "the server is rid of it too")
			})
		})
	}
}

// Closing the pool ends what runs.
func TestCloseEndsStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, nil)
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, pool.Close())
		require.Error(t, func() error { _, err := connpooltest.ReadAll(s); return err }())
		require.Zero(t, pool.Stats().TotalConnections)
		require.NoError(t, pool.Close(), "again")
	})
}

// When gRPC's own retries are exhausted while they replay a send, its error wraps
// io.EOF. A failed stream must not look like a complete one.
func TestExhaustedRetriesAreNoEnd(t *testing.T) {
	exhausted := fmt.Errorf("max retries exhausted: failed after 3 attempts: %w", io.EOF)
	synctest.Test(t, func(t *testing.T) {
		_, pool := start(t, connpooltest.Behavior{}, func(c *connpool.Config) {
			c.Breaker = connpool.Breaker{Failures: 1}
			c.DialOptions = append(c.DialOptions, grpc.WithStreamInterceptor(
				func(
					ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
					next grpc.Streamer, o ...grpc.CallOption,
				) (grpc.ClientStream, error) {
					s, err := next(ctx, d, cc, m, o...)
					return failing{s, exhausted}, err
				}))
		})
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		_, err = connpooltest.ReadAll(s)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.NotErrorIs(t, err, io.EOF)
		require.ErrorContains(t, err, "max retries exhausted")
		require.Equal(t, "open", pool.Stats().Breaker, "it counts as a failure")
	})
}

// failing is a stream that fails when it is read.
type failing struct {
	grpc.ClientStream
	err error
}

func (s failing) RecvMsg(any) error { return s.err }

// An interceptor of the connection's may try a stream again inside RecvMsg: gRPC
// tells of the end of the first try, which is not the call's.
func TestInterceptorTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rejections := 0
		once := func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if rejections++; rejections == 1 {
				return status.Error(codes.Unavailable, "not yet")
			}
			return handler(srv, s)
		}
		behavior := connpooltest.Behavior{Options: []grpc.ServerOption{grpc.StreamInterceptor(once)}}
		server, pool := start(t, behavior, func(c *connpool.Config) {
			c.DialOptions = append(c.DialOptions, grpc.WithStreamInterceptor(
				func(
					ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string,
					next grpc.Streamer, o ...grpc.CallOption,
				) (grpc.ClientStream, error) {
					open := func() (grpc.ClientStream, error) { return next(ctx, d, cc, m, o...) }
					s, err := open()
					return &triesAgain{s, open}, err
				}))
		})
		s, err := connpooltest.OpenServerStream(t.Context(), pool)
		require.NoError(t, err)
		require.NoError(t, connpooltest.Recv(s))
		require.Equal(t, 1, pool.Stats().Streams)
		server.Release()
		require.Equal(t, io.EOF, connpooltest.Recv(s))
		require.Zero(t, pool.Stats().Streams)
	})
}

type triesAgain struct {
	grpc.ClientStream
	open func() (grpc.ClientStream, error)
}

func (s *triesAgain) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if status.Code(err) != codes.Unavailable {
		return err
	}
	time.Sleep(time.Second) // as the server may have asked
	if s.ClientStream, err = s.open(); err != nil {
		return err
	}
	if err = connpooltest.Send(s.ClientStream); err != nil {
		return err
	}
	return s.ClientStream.RecvMsg(m)
}
