package interceptors_test

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/session"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// blocker takes the only stream slot until it is released.
func blocker(t *testing.T, c flight.Client) (release func()) {
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := c.DoExchange(ctx)
	require.NoError(t, err)
	require.NoError(t, stream.Send(&flight.FlightData{}))
	_, err = stream.Recv()
	require.NoError(t, err)
	return cancel
}

var config = interceptors.ServiceConfig(interceptors.ServiceConfigOptions{InitialBackoff: 10 * time.Millisecond})

// A rejected call is retried, wherever the cookie and session middlewares of
// arrow-go stand, by gRPC or, where they made that impossible, by the client.
func TestRejectionsStayRetryable(t *testing.T) {
	sessions := func() []flight.ServerMiddleware {
		return []flight.ServerMiddleware{flight.CreateServerMiddleware(session.NewServerSessionMiddleware(nil))}
	}
	cookies := func() []flight.ClientMiddleware {
		return []flight.ClientMiddleware{flight.NewClientCookieMiddleware()}
	}
	for name, test := range map[string]struct {
		cfg    interceptorstest.Config
		client interceptors.ClientConfig
	}{
		"gRPC retries": {
			interceptorstest.Config{DialOptions: []grpc.DialOption{grpc.WithDefaultServiceConfig(config)}},
			interceptors.ClientConfig{Retries: -1},
		},
		"gRPC retries, sessions, cookies outside": {interceptorstest.Config{
			DialOptions:      []grpc.DialOption{grpc.WithDefaultServiceConfig(config)},
			ServerMiddleware: sessions(), ClientMiddleware: cookies(),
		}, interceptors.ClientConfig{Retries: -1}},
		"gRPC retries, as options": {interceptorstest.Config{
			DialOptions: []grpc.DialOption{grpc.WithDefaultServiceConfig(config)}, ServerMiddleware: sessions(), AsOptions: true,
		}, interceptors.ClientConfig{Retries: -1}},
		"ours, cookies inside": {interceptorstest.Config{
			DialOptions:      []grpc.DialOption{grpc.WithDefaultServiceConfig(config)},
			ServerMiddleware: sessions(), ClientMiddleware: cookies(), AsOptions: true,
		}, interceptors.ClientConfig{}},
		"ours alone": {interceptorstest.Config{ServerMiddleware: sessions()}, interceptors.ClientConfig{}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newServer(
					t,
					interceptors.ServerConfig{
						MaxActiveStreams: 1,
						StallTimeout:     -1,
						Pushback:         interceptors.Pushback{Min: time.Second, Jitter: -1},
					},
				)
				client := newClient(t, test.client)
				cfg := test.cfg
				cfg.Server, cfg.Client = server, client
				cfg.Service = &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 10)}
				f := interceptorstest.Start(t, cfg)
				release := blocker(t, f.Client)
				time.AfterFunc(1500*time.Millisecond, release)
				began := time.Now()
				n, err := get(t.Context(), f.Client)
				require.NoError(t, err)
				require.Equal(t, 2, n)
				require.GreaterOrEqual(t, time.Since(began), 2*time.Second, "the pushback was obeyed twice")
				require.Less(t, time.Since(began), 2100*time.Millisecond)
				interceptorstest.Rejected(t, server, interceptors.ReasonActiveStreams, 2)
				idle(t, nil, server, client)
			})
		})
	}
}

// What a session middleware set before a rejection inside the handler is dropped:
// the response is trailers only.
func TestRejectionInsideTheHandlerDropsHeaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Service: &interceptorstest.Service{Header: metadata.Pairs("x-set", "early")},
		})
		stream, err := f.Client.DoPut(t.Context())
		require.NoError(t, err)
		require.NoError(t, stream.Send(interceptorstest.Bomb(t, 16<<20)))
		_, err = stream.Recv()
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Equal(t, []string{"-1"}, stream.Trailer().Get("grpc-retry-pushback-ms"))
		md, _ := stream.Header()
		require.Empty(t, md.Get("x-set"))
		_, ok := interceptors.RetryAfter(err)
		require.False(t, ok, "it can never fit")
	})
}

func TestHeadersReachTheClientOtherwise(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, service := range []*interceptorstest.Service{
			{Header: metadata.Pairs("x-set", "early"), Send: interceptorstest.Batches(t, 1, 1)},
			{Header: metadata.Pairs("x-set", "early")},
			{Header: metadata.Pairs("x-set", "early"), Fail: status.Error(codes.NotFound, "gone")},
		} {
			f := interceptorstest.Start(t, interceptorstest.Config{
				Server: newServer(t, interceptors.ServerConfig{}), Service: service,
			})
			stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
			require.NoError(t, err)
			_, _ = drain(stream)
			md, _ := stream.Header()
			require.Equal(t, []string{"early"}, md.Get("x-set"))
		}
	})
}

func TestPushbackIsJitteredUpwards(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(
			t, interceptors.ServerConfig{
				MaxActiveStreams: 1, StallTimeout: -1, Pushback: interceptors.Pushback{Min: time.Second, Jitter: 0.5},
			},
		)
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		defer blocker(t, f.Client)()
		seen := map[string]bool{}
		for range 100 {
			stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.Equal(t, codes.Unavailable, status.Code(err))
			delay, ok := interceptors.RetryAfter(err)
			require.True(t, ok)
			require.GreaterOrEqual(t, delay, time.Second)
			require.LessOrEqual(t, delay, 1500*time.Millisecond)
			ms := stream.Trailer().Get("grpc-retry-pushback-ms")[0]
			n, err := strconv.Atoi(ms)
			require.NoError(t, err)
			require.InDelta(t, delay.Milliseconds(), n, 1, "both say the same")
			seen[ms] = true
		}
		require.Greater(t, len(seen), 4)
		require.LessOrEqual(t, len(seen), 9, "few enough for the header table of HTTP/2")
	})
}

// The governor's retries go on inside a pool, which counts the call until its end.
func TestRetriesInAPool(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(
			t,
			interceptors.ServerConfig{
				MaxActiveStreams: 1,
				StallTimeout:     -1,
				Pushback:         interceptors.Pushback{Min: time.Second, Jitter: -1},
			},
		)
		client := newClient(t, interceptors.ClientConfig{})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:  server,
				Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 10)},
			},
		)
		dial := func(ctx context.Context, _ string) (net.Conn, error) { return f.Listener.DialContext(ctx) }
		pool, err := connpool.New("passthrough:///bufconn", connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: append(client.DialOptions(), grpc.WithContextDialer(dial)),
		})
		require.NoError(t, err)
		defer pool.Close()
		release := blocker(t, f.Client)
		time.AfterFunc(1500*time.Millisecond, release)
		n, err := get(t.Context(), flight.NewClientFromConn(pool.Shared(), nil))
		require.NoError(t, err)
		require.Equal(t, 2, n)
		require.EqualValues(t, 2, client.Stats().Retried)
		idle(t, nil, server, client)
		require.Zero(t, pool.Stats().Streams)
	})
}

// Where everything is rejected for long, retries stop: no storm.
func TestRetryBudget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var calls atomic.Int64
		server := newServer(t, interceptors.ServerConfig{MaxActiveStreams: 1, StallTimeout: -1})
		client := newClient(t, interceptors.ClientConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Client: client,
			ServerOptions: []grpc.ServerOption{
				grpc.ChainStreamInterceptor(
					func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
						calls.Add(1)
						return h(srv, ss)
					},
				),
			},
		})
		release := blocker(t, f.Client)
		defer release()
		calls.Store(0)
		for range 12 {
			_, err := get(t.Context(), f.Client)
			require.Equal(t, codes.Unavailable, status.Code(err))
		}
		require.Less(t, calls.Load(), int64(20), "12 calls, and no three attempts each")
	})
}

// A retry that would come after the deadline is not waited for.
func TestRetryRespectsTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(
			t,
			interceptors.ServerConfig{
				MaxActiveStreams: 1,
				StallTimeout:     -1,
				Pushback:         interceptors.Pushback{Min: time.Minute, Max: time.Hour},
			},
		)
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Client: newClient(t, interceptors.ClientConfig{}),
		})
		defer blocker(t, f.Client)()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		began := time.Now()
		_, err := get(ctx, f.Client)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.Zero(t, time.Since(began))
	})
}

func TestCodesArePolicy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{
			MaxActiveStreams: 1, StallTimeout: -1,
			Codes: interceptors.Codes{Overload: codes.Aborted, TooLarge: codes.OutOfRange},
		})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		_, err := put(t.Context(), f.Client, []*flight.FlightData{interceptorstest.Bomb(t, 16<<20)})
		require.Equal(t, codes.OutOfRange, status.Code(err))
		defer blocker(t, f.Client)()
		_, err = get(t.Context(), f.Client)
		require.Equal(t, codes.Aborted, status.Code(err))
	})
}

// Given both as options and as middleware, they count once.
func TestInstalledTwiceCountsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{})
		f := interceptorstest.Start(
			t,
			interceptorstest.Config{
				Server:        server,
				ServerOptions: server.ServerOptions(),
				Service:       &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 10)},
			},
		)
		_, err := get(t.Context(), f.Client)
		require.NoError(t, err)
		require.EqualValues(t, 1, server.Stats().Class(interceptors.ClassGet).Started)
		interceptorstest.Rows(t, server, interceptors.ClassGet, 0, 10)
		idle(t, nil, server)
	})
}

// A stage that takes its room by hand returns what its gate said: that is a
// rejection like any other, and not an unknown error.
func TestRejectionOfAGateInTheHandler(t *testing.T) {
	for name, test := range map[string]struct {
		cost flowcontrol.Cost
		code codes.Code
		ms   string
	}{
		"full":      {flowcontrol.Cost{Messages: 1}, codes.Unavailable, "50"},
		"never fit": {flowcontrol.Cost{Messages: 1, Bytes: 1 << 30}, codes.InvalidArgument, "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gate := newGate(t, flowcontrol.Config{
					Limit: flowcontrol.Cost{Messages: 1, Bytes: 1 << 20}, RejectOversized: true, MaxWait: time.Millisecond,
				})
				held, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
				require.NoError(t, err)
				defer held.Release(flowcontrol.Ignored)
				_, err = gate.Acquire(t.Context(), test.cost)
				rejection := fmt.Errorf("enricher: %w", err)
				server := newServer(t, interceptors.ServerConfig{Pushback: interceptors.Pushback{Jitter: -1}})
				f := interceptorstest.Start(t, interceptorstest.Config{
					Server: server, Service: &interceptorstest.Service{Fail: rejection},
				})
				var trailer metadata.MD
				stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
				require.NoError(t, err)
				_, err = drain(stream)
				require.Equal(t, test.code, status.Code(err), err)
				require.Equal(t, []string{test.ms}, stream.Trailer().Get("grpc-retry-pushback-ms"))
				_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{}, grpc.Trailer(&trailer))
				require.Equal(t, test.code, status.Code(err), err)
				require.Equal(t, []string{test.ms}, trailer.Get("grpc-retry-pushback-ms"))
				require.Len(t, server.Stats().Rejections, 2)
				idle(t, nil, server)
			})
		})
	}
}
