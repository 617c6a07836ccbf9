package serve

import (
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

// A stock component has no metrics of its own, so its load and its errors are in
// those of the control plane: by what its heartbeats say.
func TestStockComponentsHaveSeries(t *testing.T) {
	services := bufconn.Listen(1 << 16)
	web, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan *server.Server, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{
			GRPC: services, HTTP: web, Ready: func(s *server.Server) { ready <- s },
			Server: server.Config{Decision: backpressure.Config{Learn: -1}},
		})
	}()
	<-ready
	defer func() { stop(); require.NoError(t, <-ended) }()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return services.DialContext(ctx) }))
	require.NoError(t, err)
	defer conn.Close()

	// flowctl.ServiceInfo and ServiceHeartbeat, field by field.
	call := func(method string, content []byte) {
		request := &emptypb.Empty{}
		request.ProtoReflect().SetUnknown(content)
		require.NoError(t, conn.Invoke(ctx, "/flowctl.ControlPlane/"+method, request, &emptypb.Empty{}))
	}
	text := func(b []byte, field protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	id := text(nil, 1, "sdk-sink")
	call("Register", protowire.AppendVarint(protowire.AppendTag(id, 2, protowire.VarintType), 3))
	beat := func(metrics map[string]float64) {
		content := id
		for name, v := range metrics {
			entry := protowire.AppendFixed64(
				protowire.AppendTag(text(nil, 1, name), 2, protowire.Fixed64Type), math.Float64bits(v),
			)
			content = protowire.AppendBytes(protowire.AppendTag(content, 3, protowire.BytesType), entry)
		}
		call("Heartbeat", content)
	}
	metrics := func() string {
		response, err := http.Get("http://" + web.Addr().String() + "/metrics")
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return string(body)
	}
	beat(
		map[string]float64{"current_inflight": 90, "max_inflight": 100, "errors_total": 50, "events_processed_total": 100},
	)
	beat(nil)
	for _, want := range []string{
		`flowctl_service_load_ratio{service_id="sdk-sink",service_type="sink"} 0.9`,
		`flowctl_service_error_ratio{service_id="sdk-sink"} 0.5`,
		`flowctl_service_inflight{service_id="sdk-sink"} 90`,
	} {
		require.Eventually(
			t, func() bool { return strings.Contains(metrics(), want) }, 2*time.Minute, 50*time.Millisecond, want,
		)
	}
	beat(map[string]float64{"events_processed_total": 300})
	require.Eventually(t, func() bool {
		return strings.Contains(metrics(), `flowctl_service_error_ratio{service_id="sdk-sink"} 0`+"\n")
	}, 2*time.Minute, 50*time.Millisecond, "none of the last 200 failed")
}
