package serve

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/monitor"
)

// BenchmarkCollection is what the program does at each interval beside the
// reports: the pipeline's snapshot and its graph, as metrics and for the alerts.
func BenchmarkCollection(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			plane, register := crowd(b, n)
			watch, err := newMonitor(plane, monitor.Config{Freshness: -1})
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				register(0) // or the graph would be that of the last round
				watch.Snapshot()
			}
		})
	}
}

// crowd is a control plane of n components.
func crowd(tb testing.TB, n int) (plane *server.Server, register func(i int)) {
	ctx, stop := context.WithCancel(context.Background())
	listener := bufconn.Listen(1 << 16)
	ready := make(chan *server.Server, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{
			GRPC: listener, Ready: func(s *server.Server) { ready <- s },
			Server: server.Config{
				Decision: backpressure.Config{Learn: -1, MaxInFlight: -1},
				Limits:   server.Limits{ComponentsPerPeer: n},
			},
		})
	}()
	plane = <-ready
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(tb, err)
	tb.Cleanup(func() {
		conn.Close()
		stop()
		require.NoError(tb, <-ended)
	})
	register = func(i int) {
		// A flowctl.ServiceInfo, field by field: the generated code is not for programs.
		info := protowire.AppendTag(nil, 1, protowire.BytesType) // service_id
		info = protowire.AppendString(info, fmt.Sprintf("component-%05d", i))
		info = protowire.AppendTag(info, 2, protowire.VarintType) // service_type: processor
		info = protowire.AppendVarint(info, 2)
		info = protowire.AppendTag(info, 6, protowire.VarintType) // max_inflight
		info = protowire.AppendVarint(info, 100)
		request := &emptypb.Empty{}
		request.ProtoReflect().SetUnknown(info)
		require.NoError(tb, conn.Invoke(ctx, "/flowctl.ControlPlane/Register", request, &emptypb.Empty{}))
	}
	for i := range n {
		register(i)
	}
	return plane, register
}
