package interceptors

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/flowcontrol"
)

type smokeServer struct{ flight.BaseFlightServer }

func (smokeServer) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	for range 5 {
		if err := stream.Send(&flight.FlightData{DataBody: make([]byte, 100)}); err != nil {
			return err
		}
	}
	return nil
}

func TestSmoke(t *testing.T) {
	th, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 4}})
	require.NoError(t, err)
	srv, err := NewServer(ServerConfig{Throttler: th})
	require.NoError(t, err)
	cli, err := NewClient(ClientConfig{})
	require.NoError(t, err)
	s := flight.NewServerWithMiddleware([]flight.ServerMiddleware{flight.ServerMiddleware(srv.Middleware())})
	lis := bufconn.Listen(1 << 20)
	s.InitListener(lis)
	s.RegisterFlightService(&smokeServer{})
	go s.Serve()
	defer s.Shutdown()
	c, err := flight.NewClientWithMiddleware("passthrough:///x", nil, []flight.ClientMiddleware{flight.ClientMiddleware(cli.Middleware())},
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	defer c.Close()
	stream, err := c.DoGet(t.Context(), &flight.Ticket{})
	require.NoError(t, err)
	for n := 0; ; n++ {
		_, err := stream.Recv()
		if err == io.EOF {
			require.Equal(t, 5, n)
			break
		}
		require.NoError(t, err)
	}
	require.EqualValues(t, 5, srv.Stats().Class(ClassGet).Sent.Messages)
	require.EqualValues(t, 500, cli.Stats().Class(ClassGet).Received.Bytes)
	require.Zero(t, cli.Stats().ActiveCalls)
}
