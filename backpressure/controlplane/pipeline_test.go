package controlplane_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

// hop notes the pipeline of a call and calls the next one with the context that
// it was called with.
type hop struct {
	grpc_health_v1.UnimplementedHealthServer
	next grpc_health_v1.HealthClient
	seen []string
}

func (h *hop) Check(
	ctx context.Context, in *grpc_health_v1.HealthCheckRequest,
) (*grpc_health_v1.HealthCheckResponse, error) {
	h.seen = append(h.seen, controlplane.PipelineID(ctx))
	if h.next != nil {
		return h.next.Check(ctx, in)
	}
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (h *hop) serve(t *testing.T, own string) grpc_health_v1.HealthClient {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, h)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:hop", append(controlplane.PipelineDialOptions(own),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))...)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return grpc_health_v1.NewHealthClient(conn)
}

func TestPipelineIDTravelsAcrossHops(t *testing.T) {
	last := &hop{}
	first := &hop{next: last.serve(t, "the-last-hop's")}
	client := first.serve(t, "own")
	call := func(ctx context.Context) {
		_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		require.NoError(t, err)
	}
	call(t.Context())
	call(controlplane.WithPipelineID(t.Context(), "ledgers"))
	call(metadata.AppendToOutgoingContext(t.Context(), controlplane.PipelineKey, "by-hand"))
	require.Equal(t, []string{"own", "ledgers", "by-hand"}, first.seen)
	require.Equal(t, first.seen, last.seen, "what was received goes on")

	call(metadata.AppendToOutgoingContext(t.Context(), controlplane.PipelineKey, strings.Repeat("x", 10_000)))
	require.Equal(t, "", first.seen[3], "an absurd id is none")
	require.Equal(t, "the-last-hop's", last.seen[3])
	call(controlplane.WithPipelineID(t.Context(), "b\nad"))
	require.Equal(t, "", first.seen[4])
}
