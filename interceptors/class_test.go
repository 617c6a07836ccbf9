package interceptors_test

import (
	"context"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// sqlCommand is a serialized Any with the type URL of a Flight SQL command.
func sqlCommand(t testing.TB, name string) []byte {
	b, err := proto.Marshal(
		&anypb.Any{TypeUrl: "type.googleapis.com/arrow.flight.protocol.sql." + name, Value: []byte{1, 2}},
	)
	require.NoError(t, err)
	return b
}

func TestClassIsReadFromTheCommand(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server, client := newServer(t, interceptors.ServerConfig{}), newClient(t, interceptors.ClientConfig{})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server, Client: client})
		for command, class := range map[string]interceptors.Class{
			"CommandGetTables": interceptors.ClassGetMetadata, "CommandGetSqlInfo": interceptors.ClassGetMetadata,
			"TicketStatementQuery": interceptors.ClassGet, "CommandPreparedStatementQuery": interceptors.ClassGet,
			"": interceptors.ClassGet,
		} {
			ticket := []byte("free text")
			if command != "" {
				ticket = sqlCommand(t, command)
			}
			before := server.Stats().Class(class).Completed
			stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{Ticket: ticket})
			require.NoError(t, err)
			_, err = drain(stream)
			require.NoError(t, err)
			idle(t, nil, server, client)
			require.Equal(t, before+1, server.Stats().Class(class).Completed, command)
			require.Equal(t, before+1, client.Stats().Class(class).Completed, command)
		}
		for command, class := range map[string]interceptors.Class{
			"CommandPreparedStatementQuery": interceptors.ClassPutBind, "CommandStatementUpdate": interceptors.ClassPutUpdate,
			"CommandStatementIngest": interceptors.ClassPut, "": interceptors.ClassPut,
		} {
			d := &flight.FlightDescriptor{Type: flight.DescriptorCMD}
			if command != "" {
				d.Cmd = sqlCommand(t, command)
			}
			before := server.Stats().Class(class).Completed
			_, err := put(t.Context(), f.Client, interceptorstest.Put(d, interceptorstest.Batches(t, 1, 1)))
			require.NoError(t, err)
			idle(t, nil, server, client)
			require.Equal(t, before+1, server.Stats().Class(class).Completed, command)
			require.Equal(t, before+1, client.Stats().Class(class).Completed, command)
		}
		_, err := f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.NoError(t, err)
		require.EqualValues(t, 1, server.Stats().Class(interceptors.ClassInfo).Completed)
	})
}

// Neither health nor Handshake is counted, limited or drained.
func TestExempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newServer(t, interceptors.ServerConfig{
			MaxActiveStreams: 1, StallTimeout: -1, Exempt: []string{"/arrow.flight.protocol.FlightService/GetFlightInfo"},
		})
		client := newClient(t, interceptors.ClientConfig{})
		var conn grpc.ClientConnInterface
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, Client: client,
			Register: func(r grpc.ServiceRegistrar) { grpc_health_v1.RegisterHealthServer(r, health.NewServer()) },
			DialOptions: []grpc.DialOption{
				grpc.WithUnaryInterceptor(
					func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn,
						inv grpc.UnaryInvoker, opts ...grpc.CallOption,
					) error {
						conn = cc
						return inv(ctx, m, req, reply, cc, opts...)
					},
				),
			},
		})
		_, err := f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
		require.NoError(t, err)
		defer blocker(t, f.Client)()
		hc := grpc_health_v1.NewHealthClient(conn)
		_, err = hc.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		require.NoError(t, err)
		watch, err := hc.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		require.NoError(t, err)
		_, err = watch.Recv()
		require.NoError(t, err)
		s := server.Stats()
		require.EqualValues(t, 1, s.ActiveCalls, "the blocker alone")
		require.Zero(t, s.Class(interceptors.ClassUnary).Started)
		require.Zero(t, s.Class(interceptors.ClassInfo).Started)
	})
}
