package interceptors_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// echo is a service that knows no Arrow: its stream sends back what it gets.
var echo = grpc.ServiceDesc{
	ServiceName: "test.Echo", HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{
			StreamName:    "Stream",
			ClientStreams: true,
			ServerStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error {
				for {
					m := &wrapperspb.BytesValue{}
					if err := stream.RecvMsg(m); err != nil {
						if errors.Is(err, io.EOF) {
							return nil
						}
						return err
					}
					if err := stream.SendMsg(m); err != nil {
						return err
					}
				}
			},
		},
	},
}

// A user's own grpc.Server and a service without Arrow are governed alike.
func TestPlainGRPC(t *testing.T) {
	gate := newGate(
		t,
		flowcontrol.Config{
			Limit: flowcontrol.Cost{Messages: 1},
			Rate:  flowcontrol.Rates{Messages: 1000},
			Burst: flowcontrol.Cost{Messages: 1},
		},
	)
	governor := newServer(t, interceptors.ServerConfig{Throttler: gate})
	client := newClient(t, interceptors.ClientConfig{})
	server := grpc.NewServer(governor.ServerOptions()...)
	server.RegisterService(&echo, struct{}{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient(
		listener.Addr().String(),
		append(client.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	require.NoError(t, err)
	defer conn.Close()
	stream, err := conn.NewStream(t.Context(), &echo.Streams[0], "/test.Echo/Stream")
	require.NoError(t, err)
	m := &wrapperspb.BytesValue{Value: make([]byte, 100)}
	for range 10 {
		require.NoError(t, stream.SendMsg(m))
		require.NoError(t, stream.RecvMsg(&wrapperspb.BytesValue{}))
	}
	require.NoError(t, stream.CloseSend())
	require.ErrorIs(t, stream.RecvMsg(&wrapperspb.BytesValue{}), io.EOF)
	require.Eventually(t, func() bool { return governor.Stats().ActiveCalls == 0 }, time.Minute, time.Millisecond)
	want := interceptors.Traffic{Messages: 10, Bytes: 1020, Uncompressed: 1020}
	require.Equal(t, want, governor.Stats().Class(interceptors.ClassStream).Received)
	require.Equal(t, want, client.Stats().Class(interceptors.ClassStream).Received)
	interceptorstest.Idle(t, client)
	interceptorstest.Empty(t, gate)
}
