package interceptors_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// attempts counts what reaches the server.
func attempts(n *atomic.Int64) grpc.ServerOption {
	return grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			n.Add(1)
			return h(srv, ss)
		},
	)
}

// Twice as many DoGets as there are slots, with time to wait for one: all
// succeed, in three attempts each at most, however long they take.
func TestHintsGrowWithWhatHoldsTheRoom(t *testing.T) {
	for _, took := range []time.Duration{
		20 * time.Millisecond, 200 * time.Millisecond, time.Second, 3 * time.Second, 6 * time.Second,
	} {
		for name, client := range map[string]interceptors.ClientConfig{
			"Client and service config": {}, "service config alone": {Retries: -1},
		} {
			t.Run(fmt.Sprint(took, " ", name), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					var calls atomic.Int64
					server := newServer(t, interceptors.ServerConfig{MaxActiveStreams: 32, StallTimeout: -1})
					f := interceptorstest.Start(t, interceptorstest.Config{
						Server: server, Client: newClient(t, client), ServerOptions: []grpc.ServerOption{attempts(&calls)},
						DialOptions: []grpc.DialOption{
							grpc.WithDefaultServiceConfig(interceptors.ServiceConfig(interceptors.ServiceConfigOptions{})),
						},
						Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 10), Every: took / 2},
					})
					var wg sync.WaitGroup
					var failed atomic.Int64
					for range 60 {
						wg.Go(func() {
							ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
							defer cancel()
							if _, err := get(ctx, f.Client); err != nil {
								failed.Add(1)
							}
						})
					}
					wg.Wait()
					if name != "service config alone" { // gRPC's own budget is 5 failures, then none is retried
						require.Zero(t, failed.Load())
					}
					require.LessOrEqual(t, calls.Load(), int64(3*60))
					idle(t, nil, server)
				})
			})
		}
	}
}

// A server that rejects for ever is tried three times, whatever retries.
func TestThreeAttemptsInTotal(t *testing.T) {
	withConfig := []grpc.DialOption{grpc.WithDefaultServiceConfig(config)}
	for name, test := range map[string]struct {
		client *interceptors.ClientConfig
		dial   []grpc.DialOption
		want   int64
	}{
		"both":           {&interceptors.ClientConfig{}, withConfig, 3},
		"Client":         {&interceptors.ClientConfig{}, nil, 3},
		"service config": {nil, withConfig, 3},
		"neither":        {&interceptors.ClientConfig{Retries: -1}, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var calls atomic.Int64
				server := newServer(t, interceptors.ServerConfig{MaxActiveStreams: 1, StallTimeout: -1})
				cfg := interceptorstest.Config{
					Server:        server,
					ServerOptions: []grpc.ServerOption{attempts(&calls)},
					DialOptions:   test.dial,
				}
				if test.client != nil {
					cfg.Client = newClient(t, *test.client)
				}
				f := interceptorstest.Start(t, cfg)
				defer blocker(t, f.Client)()
				calls.Store(0)
				_, err := get(t.Context(), f.Client)
				require.Equal(t, codes.Unavailable, status.Code(err))
				require.Equal(t, test.want, calls.Load())
			})
		})
	}
}

// Two Clients, one inside the other: the outer one retries.
func TestOneClientRetries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var calls atomic.Int64
		outer, inner := newClient(t, interceptors.ClientConfig{}), newClient(t, interceptors.ClientConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: newServer(
				t,
				interceptors.ServerConfig{MaxActiveStreams: 1, StallTimeout: -1},
			), ServerOptions: []grpc.ServerOption{attempts(&calls)},
			Client: inner, ClientMiddleware: []flight.ClientMiddleware{flight.ClientMiddleware(outer.Middleware())},
		})
		defer blocker(t, f.Client)()
		calls.Store(0)
		_, err := get(t.Context(), f.Client)
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.EqualValues(t, 3, calls.Load())
		require.EqualValues(t, 2, outer.Stats().Retried)
		require.Zero(t, inner.Stats().Retried)
	})
}

// Header is that of the attempt that is answered, as with gRPC's own retries.
func TestHeaderOfARetriedCall(t *testing.T) {
	for name, test := range map[string]struct {
		service *interceptorstest.Service
		release time.Duration
		want    []string
		n       int
		code    codes.Code
	}{
		"answered": {
			&interceptorstest.Service{Header: metadata.Pairs("x-set", "yes"), Send: interceptorstest.Batches(t, 1, 10)},
			1500 * time.Millisecond,
			[]string{"yes"},
			2, codes.OK,
		},
		"empty": {&interceptorstest.Service{}, 1500 * time.Millisecond, nil, 0, codes.OK},
		"failed": {
			&interceptorstest.Service{Fail: status.Error(codes.NotFound, "gone")},
			1500 * time.Millisecond, nil, 0, codes.NotFound,
		},
		"rejected again": {&interceptorstest.Service{}, time.Hour, nil, 0, codes.Unavailable},
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
				client := newClient(t, interceptors.ClientConfig{})
				f := interceptorstest.Start(t, interceptorstest.Config{Server: server, Client: client, Service: test.service})
				release := blocker(t, f.Client)
				timer := time.AfterFunc(test.release, release)
				stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
				require.NoError(t, err)
				var beside metadata.MD
				asked := make(chan struct{})
				go func() { defer close(asked); beside, _ = stream.Header() }()
				md, err := stream.Header()
				require.NoError(t, err)
				<-asked
				require.Equal(t, test.want, md.Get("x-set"))
				require.Equal(t, test.want, beside.Get("x-set"))
				n, err := drain(stream)
				require.Equal(t, test.code, status.Code(err))
				require.Equal(t, test.n, n)
				timer.Stop()
				release()
				idle(t, nil, server, client)
			})
		})
	}
}
