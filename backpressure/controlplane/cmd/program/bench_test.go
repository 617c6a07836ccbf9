package program

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/monitor"
)

// BenchmarkCollection is what the program does at each interval beside the
// reports: the pipeline's snapshot and its graph, as metrics and for the alerts.
func BenchmarkCollection(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			server, register := crowd(b, n)
			watch, err := newMonitor(server, monitor.Config{Freshness: -1})
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
func crowd(tb testing.TB, n int) (server *controlplane.Server, register func(i int)) {
	ctx, stop := context.WithCancel(context.Background())
	listener := bufconn.Listen(1 << 16)
	ready := make(chan *controlplane.Server, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{
			GRPC: listener, Ready: func(s *controlplane.Server) { ready <- s },
			Server: controlplane.ServerConfig{
				Decision: backpressure.Config{Learn: -1, MaxInFlight: -1},
				Limits:   controlplane.Limits{ComponentsPerPeer: n},
			},
		})
	}()
	server = <-ready
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(tb, err)
	tb.Cleanup(func() {
		conn.Close()
		stop()
		require.NoError(tb, <-ended)
	})
	services := flowctlpb.Client{Conn: conn}
	register = func(i int) {
		_, err := services.Register(ctx, &flowctlpb.ServiceInfo{
			ServiceId: fmt.Sprintf("component-%05d", i), ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR, MaxInflight: 100,
		})
		require.NoError(tb, err)
	}
	for i := range n {
		register(i)
	}
	return server, register
}
