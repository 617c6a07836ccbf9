package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/interceptors"
)

// Both sides count failures by what the peer is told; the set of codes is
// bounded whatever a handler returns.
func TestFailuresByCode(t *testing.T) {
	server := newServer(t, interceptors.ServerConfig{})
	client := newClient(t, interceptors.ClientConfig{})
	serve, call := server.Middleware().Unary, client.Middleware().Unary
	info := &grpc.UnaryServerInfo{FullMethod: "/test/Do"}
	ends := []error{
		nil,
		context.Canceled,
		status.Error(codes.Canceled, "left"),
		fmt.Errorf("read: %w", context.DeadlineExceeded),
		status.Error(codes.DeadlineExceeded, "late"),
		status.Error(codes.Internal, "broken"),
		errors.New("anything"),
		status.Error(codes.Code(4711), "invented"),
	}
	for _, end := range ends {
		_, err := serve(t.Context(), nil, info, func(context.Context, any) (any, error) { return nil, end })
		require.Equal(t, end, err)
		err = call(
			t.Context(),
			"/test/Do",
			nil,
			nil,
			nil,
			func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return end },
		)
		require.Equal(t, end, err)
	}
	want := []interceptors.Failure{
		{Code: codes.Unknown, Count: 2},
		{Code: codes.DeadlineExceeded, Count: 2},
		{Code: codes.Internal, Count: 1},
	}
	for _, s := range []interceptors.Stats{server.Stats(), client.Stats()} {
		require.Equal(t, want, s.Failures)
		require.Len(t, s.Classes, 1)
		c := s.Classes[0]
		require.Equal(t, []int64{8, 1, 5, 2}, []int64{c.Started, c.Completed, c.Failed, c.Cancelled})
	}
}
