package interceptors

import (
	"context"
	"net"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
)

// BenchmarkReject is a rejected unary call over bufconn, both ends: by a
// Server whose gate always rejects, beside an interceptor that does nothing but
// return a status: a plain one, and one with the delay and the reason of ours.
func BenchmarkReject(b *testing.B) {
	s, err := NewServer(ServerConfig{Throttler: &flowcontroltest.AlwaysRejects{}})
	require.NoError(b, err)
	bare := func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.ResourceExhausted, "limit exceeded")
	}
	same := func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		e := &Error{Reason: "in_flight", Code: codes.Unavailable, RetryAfter: s.pushback.delay(0)}
		_ = grpc.SetTrailer(ctx, e.reply().trailer)
		return nil, e.reply().status.Err()
	}
	for _, v := range []struct {
		name    string
		options []grpc.ServerOption
	}{
		{"bare", []grpc.ServerOption{grpc.ChainUnaryInterceptor(bare)}},
		{"bare, same answer", []grpc.ServerOption{grpc.ChainUnaryInterceptor(same)}},
		{"server", s.ServerOptions()},
	} {
		options := v.options
		b.Run(v.name, func(b *testing.B) {
			server := grpc.NewServer(options...)
			flight.RegisterFlightServiceServer(server, &flight.BaseFlightServer{})
			listener := bufconn.Listen(1 << 16)
			go server.Serve(listener)
			defer server.Stop()
			conn, err := grpc.NewClient("passthrough:///bench", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
			require.NoError(b, err)
			defer conn.Close()
			client := flight.NewFlightServiceClient(conn)
			descriptor := &flight.FlightDescriptor{}
			benchmark(b, func() {
				if _, err := client.GetFlightInfo(b.Context(), descriptor); err == nil {
					b.Fatal("admitted")
				}
			})
		})
	}
	// Without gRPC: what the interceptor itself takes.
	b.Run("interceptor", func(b *testing.B) {
		ctx := grpc.NewContextWithServerTransportStream(context.Background(), nullTransport{})
		info := &grpc.UnaryServerInfo{FullMethod: flightService + "GetFlightInfo"}
		benchmark(b, func() {
			_, err := s.interceptUnary(ctx, &flight.FlightDescriptor{}, info, nil)
			status.Convert(err)
		})
	})
	b.Run("stream interceptor", func(b *testing.B) {
		stream := bareStream{ctx: context.Background()}
		info := &grpc.StreamServerInfo{FullMethod: flightService + "DoGet", IsServerStream: true}
		benchmark(b, func() { status.Convert(s.interceptStream(nil, stream, info, nil)) })
	})
}
