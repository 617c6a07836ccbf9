package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/cmd/sluice-controlplane/serve"
	"github.com/withobsrvr/sluice/topology"
)

// TestRun runs the whole program on TCP: an agent joins, its load shows in
// the metrics and the state, and the health service answers.
func TestRun(t *testing.T) {
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		return l
	}
	services, web := listen(), listen()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	var said bytes.Buffer
	go func() {
		ended <- serve.Run(ctx, serve.Config{
			GRPC: services, HTTP: web, Interval: 50 * time.Millisecond,
			Server: server.Config{Decision: backpressure.Config{Policy: backpressure.Step{}, Learn: -1}},
			Ready:  func(*server.Server) { close(ready) },
			Logger: slog.New(slog.NewTextHandler(&said, nil)),
		})
	}()
	<-ready

	member, err := agent.New(agent.Config{
		Endpoint:  services.Addr().String(),
		Component: controlplane.Component{ID: "analytics-sink", Kind: topology.KindSink},
		Report:    func() backpressure.Report { return backpressure.Report{InFlight: 90, MaxInFlight: 100, Throughput: 42} },
	})
	require.NoError(t, err)
	agentEnded := make(chan error, 1)
	agentCtx, stopAgent := context.WithCancel(t.Context())
	go func() { agentEnded <- member.Run(agentCtx) }()

	const hang = 2 * time.Minute // a guard, not a bar
	get := func(path string) string {
		response, err := http.Get("http://" + web.Addr().String() + path)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, response.StatusCode, "%s: %s", path, body)
		return string(body)
	}
	require.Eventually(t, func() bool { return member.Fraction() == 0.5 }, hang, 10*time.Millisecond)
	var state serve.State
	require.NoError(t, json.Unmarshal([]byte(get("/state")), &state))
	require.True(t, state.Active)
	require.Equal(t, 0.5, state.Fractions["analytics-sink"])
	require.Eventually(t, func() bool {
		metrics := get("/metrics")
		return strings.Contains(metrics, "flowctl_backpressure_active 1") &&
			strings.Contains(metrics, "flowctl_throttle_rate 0.5")
	}, hang, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(get("/topology.json"), `"name":"BackpressureActive"`)
	}, hang, 50*time.Millisecond, "what the engine says is on the page")
	require.NotContains(t, get("/metrics"), `flowctl_service_load_ratio{service_id="analytics-sink"`,
		"a component with an agent exports its own figures")
	for _, path := range []string{"/livez", "/health", "/"} {
		require.NotEmpty(t, get(path))
	}
	conn, err := grpc.NewClient(services.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, health.GetStatus())
	require.Subset(t, reflected(t, conn), []string{
		"flowctl.ControlPlane", "flowctl.v1.ControlPlaneService", "sluice.controlplane.v1.Coordination",
		"grpc.health.v1.Health",
	})

	cancel()
	require.NoError(t, <-ended)
	require.Contains(t, said.String(), "gRPC is plaintext, on loopback only")
	require.Equal(t, 0.5, member.Fraction(), "the component goes on without it")
	stopAgent()
	require.NoError(t, <-agentEnded)
}

// reflected asks the reflection service what there is.
func reflected(t *testing.T, conn *grpc.ClientConn) (names []string) {
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}))
	response, err := stream.Recv()
	require.NoError(t, err)
	for _, service := range response.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	return names
}
