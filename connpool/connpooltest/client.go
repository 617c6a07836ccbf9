package connpooltest

import (
	"context"
	"io"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// Call makes the unary call.
func Call(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
	return cc.Invoke(ctx, Unary, new(healthpb.HealthCheckRequest), new(healthpb.HealthCheckResponse), opts...)
}

// OpenServerStream opens a ServerStream and sends its one request.
func OpenServerStream(
	ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, ServerStream, opts...)
	if err != nil {
		return nil, err
	}
	if err := s.SendMsg(new(healthpb.HealthCheckRequest)); err != nil {
		return nil, err
	}
	return s, s.CloseSend()
}

// OpenClientStream opens a ClientStream.
func OpenClientStream(
	ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, ClientStream, opts...)
}

// Send sends one message.
func Send(s grpc.ClientStream) error { return s.SendMsg(new(healthpb.HealthCheckRequest)) }

// Recv receives one message.
func Recv(s grpc.ClientStream) error { return s.RecvMsg(new(healthpb.HealthCheckResponse)) }

// ReadAll receives until the stream ends, and returns how many messages came.
// The end of the stream itself is no error.
func ReadAll(s grpc.ClientStream) (n int, err error) {
	for {
		if err = Recv(s); err != nil {
			return n, ignoreEOF(err)
		}
		n++
	}
}

func ignoreEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // gRPC returns it as it is
		return nil
	}
	return err
}
