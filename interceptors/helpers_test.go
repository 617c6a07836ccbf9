package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

func newGate(t testing.TB, cfg flowcontrol.Config) *flowcontrol.Throttler {
	t.Helper()
	gate, err := flowcontrol.New(cfg)
	require.NoError(t, err)
	return gate
}

func newServer(t testing.TB, cfg interceptors.ServerConfig) *interceptors.Server {
	t.Helper()
	s, err := interceptors.NewServer(cfg)
	require.NoError(t, err)
	return s
}

// newClient has its timer for abandoned streams off unless asked for, so that a
// bubble that hangs is noticed.
func newClient(t testing.TB, cfg interceptors.ClientConfig) *interceptors.Client {
	t.Helper()
	if cfg.ReapInterval == 0 {
		cfg.ReapInterval = -1
	}
	c, err := interceptors.NewClient(cfg)
	require.NoError(t, err)
	return c
}

// bubble runs f under fake time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// recovered turns a handler's panic into an error, outside of our interceptors.
var recovered = []grpc.ServerOption{
	grpc.ChainStreamInterceptor(
		func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = status.Error(codes.Internal, fmt.Sprint(p))
				}
			}()
			return h(srv, ss)
		},
	),
	grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (_ any, err error) {
			defer func() {
				if p := recover(); p != nil {
					err = status.Error(codes.Internal, fmt.Sprint(p))
				}
			}()
			return h(ctx, req)
		},
	),
}

type receiver[T any] interface{ Recv() (T, error) }

// drain reads a stream to its end, and returns how many messages it had.
func drain[T any](stream receiver[T]) (int, error) {
	for n := 0; ; n++ {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return n, nil
			}
			return n, err
		}
	}
}

func get(ctx context.Context, c flight.Client, opts ...grpc.CallOption) (int, error) {
	stream, err := c.DoGet(ctx, &flight.Ticket{Ticket: []byte("t")}, opts...)
	if err != nil {
		return 0, err
	}
	return drain(stream)
}

// put sends messages, closes, and reads every acknowledgement.
func put(ctx context.Context, c flight.Client, messages []*flight.FlightData) (int, error) {
	stream, err := c.DoPut(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // Recv has why
		}
	}
	if err := stream.CloseSend(); err != nil {
		return 0, err
	}
	return drain(stream)
}

func idle(t testing.TB, gate *flowcontrol.Throttler, gs ...interceptorstest.Governor) {
	t.Helper()
	synctest.Wait()
	for _, g := range gs {
		interceptorstest.Idle(t, g)
	}
	if gate != nil {
		interceptorstest.Empty(t, gate)
	}
}
