package interceptors_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// A call is counted until it really ends, whatever stands below and whatever
// does not read: gRPC's own notice of the end does not come on all these paths.
func TestClientCountsUntilTheRealEnd(t *testing.T) {
	broken := errors.New("told to fail")
	for name, test := range map[string]struct {
		below grpc.StreamClientInterceptor
		call  func(t *testing.T, ctx context.Context, c flight.Client)
	}{
		"below fails after it made the stream": {
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, m string,
				streamer grpc.Streamer, opts ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				_, err := streamer(ctx, desc, cc, m, opts...)
				return nil, errors.Join(broken, err)
			},
			func(t *testing.T, ctx context.Context, c flight.Client) {
				_, err := c.DoGet(ctx, &flight.Ticket{})
				require.ErrorIs(t, err, broken)
			},
		},
		"below rejects": {
			func(
				context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return nil, broken
			},
			func(t *testing.T, ctx context.Context, c flight.Client) {
				_, err := c.DoPut(ctx)
				require.ErrorIs(t, err, broken)
			},
		},
		"below drops the options, read to the end": {
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, m string,
				streamer grpc.Streamer, _ ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return streamer(ctx, desc, cc, m)
			},
			func(t *testing.T, ctx context.Context, c flight.Client) {
				_, err := get(ctx, c)
				require.NoError(t, err)
			},
		},
		"below drops the options, cancelled": {
			func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, m string,
				streamer grpc.Streamer, _ ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return streamer(ctx, desc, cc, m)
			},
			func(t *testing.T, ctx context.Context, c flight.Client) {
				ctx, cancel := context.WithCancel(ctx)
				_, err := c.DoGet(ctx, &flight.Ticket{})
				require.NoError(t, err)
				synctest.Wait()
				cancel()
			},
		},
		"context over before the call": {nil, func(t *testing.T, ctx context.Context, c flight.Client) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := get(ctx, c)
			require.Equal(t, codes.Canceled, status.Code(err))
		}},
		"unimplemented": {nil, func(t *testing.T, ctx context.Context, c flight.Client) {
			stream, err := c.ListFlights(ctx, &flight.Criteria{})
			require.NoError(t, err)
			_, err = drain(stream)
			require.Equal(t, codes.Unimplemented, status.Code(err))
		}},
		"read on after the end": {nil, func(t *testing.T, ctx context.Context, c flight.Client) {
			stream, err := c.DoGet(ctx, &flight.Ticket{})
			require.NoError(t, err)
			for range 3 {
				_, err = drain(stream)
				require.NoError(t, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 2}})
				client := newClient(t, interceptors.ClientConfig{Throttler: gate})
				server := newServer(t, interceptors.ServerConfig{})
				cfg := interceptorstest.Config{
					Client:  client,
					Server:  server,
					Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 3, 10)},
				}
				if test.below != nil {
					cfg.Client = nil
					cfg.DialOptions = append(client.DialOptions(), grpc.WithChainStreamInterceptor(test.below))
				}
				f := interceptorstest.Start(t, cfg)
				test.call(t, t.Context(), f.Client)
				idle(t, gate, client, server)
			})
		})
	}
}

func TestStreamsAreListed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{StallTimeout: -1, Tenant: tenantOf})
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Service: &interceptorstest.Service{Handle: 10 * time.Second},
		})
		ctx, cancel := context.WithCancel(as(t.Context(), "a"))
		stream, err := f.Client.DoPut(ctx)
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		require.NoError(t, stream.Send(interceptorstest.Batches(t, 1, 10)[1]))
		time.Sleep(7 * time.Second)
		list := server.Streams()
		require.Len(t, list, 1)
		s := list[0]
		require.Equal(t, "a", s.Tenant)
		require.Equal(t, interceptors.ClassPut, s.Class)
		require.EqualValues(t, 10, s.InFlight.Rows)
		require.Equal(t, s.InFlight, server.Stats().Tenants[0].InFlight)
		require.Equal(t, 5*time.Second, s.Idle)
		require.Equal(t, 7*time.Second, s.Busy)
		require.Equal(t, 12*time.Second, s.Age)
		cancel()
		idle(t, nil, server)
		require.Empty(t, server.Streams())
	})
}
