package wire_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure/internal/wire"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
)

// old answers Register alone; a call of anything else would be a nil method.
type old struct{ flowctlpb.Server }

func (old) Register(_ context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	return &flowctlpb.RegistrationAck{ServiceId: in.ServiceId + "-1"}, nil
}

type newer struct{ flowctlv1pb.Server }

func (newer) Heartbeat(_ context.Context, in *flowctlv1pb.HeartbeatRequest) (*emptypb.Empty, error) {
	return nil, status.Errorf(codes.NotFound, "no component %q", in.ServiceId)
}

func TestServicesKeepTheirNamesOnTheWire(t *testing.T) {
	var methods []string
	conn := serve(t, func(s *grpc.Server) {
		flowctlpb.RegisterServer(s, old{})
		flowctlv1pb.RegisterServer(s, newer{})
	}, grpc.UnaryInterceptor(func(
		ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
	) (any, error) {
		methods = append(methods, info.FullMethod)
		return next(ctx, req)
	}))

	ack, err := flowctlpb.Client{Conn: conn}.Register(t.Context(), &flowctlpb.ServiceInfo{ServiceId: "sink"})
	require.NoError(t, err)
	require.Equal(t, "sink-1", ack.ServiceId)

	_, err = flowctlv1pb.Client{Conn: conn}.Heartbeat(t.Context(), &flowctlv1pb.HeartbeatRequest{ServiceId: "sink"})
	require.Equal(t, codes.NotFound, status.Code(err))

	_, err = wire.Invoke[emptypb.Empty](t.Context(), conn, flowctlpb.ServiceName, "ListPipelineRuns", &emptypb.Empty{})
	require.Equal(t, codes.Unimplemented, status.Code(err), "pipeline-run records are out of scope")

	require.Equal(t, []string{"/flowctl.ControlPlane/Register", "/flowctl.v1.ControlPlaneService/Heartbeat"}, methods)
}

// A program that links flowctl's own generated code must not find its names taken.
func TestMessagesStayOutOfFlowctlsPackages(t *testing.T) {
	for _, name := range []string{"flowctl.ServiceInfo", "flowctl.v1.ComponentInfo"} {
		_, err := protoregistry.GlobalTypes.FindMessageByURL(name)
		require.ErrorIs(t, err, protoregistry.NotFound)
	}
}

func serve(t *testing.T, register func(*grpc.Server), opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(opts...)
	register(server)
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///wire",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		server.Stop()
		require.NoError(t, <-done)
	})
	return conn
}
