package interceptors_test

import (
	"context"
	"math"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// utilization reads field 9 of an OrcaLoadReport, application_utilization.
func utilization(t testing.TB, b []byte) float64 {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		b = b[n:]
		if number == 9 {
			v, n := protowire.ConsumeFixed64(b)
			require.Positive(t, n)
			return math.Float64frombits(v)
		}
		n = protowire.ConsumeFieldValue(number, kind, b)
		require.Positive(t, n)
		b = b[n:]
	}
	return 0
}

// loaded is a server whose gate is full to the given share.
func loaded(t testing.TB, share float64) *interceptors.Server {
	gate := newGate(t, flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 100}})
	_, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: int64(100 * share)})
	require.NoError(t, err)
	return newServer(t, interceptors.ServerConfig{
		Throttler: gate, LoadReports: interceptors.LoadReportsAll, StallTimeout: -1,
	})
}

func TestLoadIsReported(t *testing.T) {
	const key = "endpoint-load-metrics-bin"
	bubble(t, func(t *testing.T) {
		server := loaded(t, 0.4)
		var conn *grpc.ClientConn
		f := interceptorstest.Start(t, interceptorstest.Config{
			Server: server, AsOptions: true,
			Register: func(r grpc.ServiceRegistrar) { require.NoError(t, server.RegisterLoadService(r, 30*time.Second)) },
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
		stream, err := f.Client.DoGet(t.Context(), &flight.Ticket{})
		require.NoError(t, err)
		_, err = drain(stream)
		require.NoError(t, err)
		require.InDelta(t, 0.4, utilization(t, []byte(stream.Trailer().Get(key)[0])), 0.011)
		var trailer metadata.MD
		_, err = f.Client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{}, grpc.Trailer(&trailer))
		require.NoError(t, err)
		require.InDelta(t, 0.4, utilization(t, []byte(trailer.Get(key)[0])), 0.011)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		oob, err := conn.NewStream(
			ctx,
			&grpc.StreamDesc{ServerStreams: true},
			"/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics",
		)
		require.NoError(t, err)
		require.NoError(t, oob.SendMsg(&emptypb.Empty{}))
		for range 2 {
			report := &emptypb.Empty{}
			require.NoError(t, oob.RecvMsg(report))
			require.InDelta(t, 0.4, utilization(t, report.ProtoReflect().GetUnknown()), 0.011)
		}
	})
	require.Error(t, newServer(t, interceptors.ServerConfig{}).RegisterLoadService(grpc.NewServer(), time.Minute))
}

// gRPC's weighted round robin sends less to the server that says that it is fuller.
func TestWeightedRoundRobinFollowsTheLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var picked [2]atomic.Int64
		addresses := make([]resolver.Address, 2)
		dial := map[string]func(context.Context) (net.Conn, error){}
		for i, share := range []float64{0.1, 0.9} {
			server := loaded(t, share)
			f := interceptorstest.Start(t, interceptorstest.Config{
				Server: server, AsOptions: true,
				Service: &interceptorstest.Service{OnCall: func(context.Context) { picked[i].Add(1) }},
			})
			addresses[i] = resolver.Address{Addr: []string{"empty", "full"}[i]}
			dial[addresses[i].Addr] = f.Listener.DialContext
		}
		names := manual.NewBuilderWithScheme("test")
		names.InitialState(resolver.State{Addresses: addresses})
		conn, err := grpc.NewClient(
			"test:///servers",
			grpc.WithResolvers(names),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dial[address](ctx) }),
			grpc.WithDefaultServiceConfig(
				interceptors.ServiceConfig(interceptors.ServiceConfigOptions{Balancer: "weighted_round_robin"}),
			),
		)
		require.NoError(t, err)
		defer conn.Close()
		client := flight.NewClientFromConn(conn, nil)
		calls := func(n int) {
			for range n {
				_, err := client.GetFlightInfo(t.Context(), &flight.FlightDescriptor{})
				require.NoError(t, err)
				time.Sleep(20 * time.Millisecond)
			}
		}
		calls(600) // 12 s: past the blackout of 10 s, in which weights do not count
		picked[0].Store(0)
		picked[1].Store(0)
		calls(500)
		t.Logf("%d to the empty one, %d to the full one", picked[0].Load(), picked[1].Load())
		require.Greater(t, picked[0].Load(), 4*picked[1].Load())
	})
}
