package main

import (
	"bytes"
	"context"
	"math"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/topology"
)

// stock answers what a deployed control plane does.
type stock struct {
	flowctlv1pb.Server
	components []*flowctlv1pb.ComponentStatusResponse
	events     float64
}

func (s *stock) ListComponents(_ context.Context, in *flowctlv1pb.ListComponentsRequest) (*flowctlv1pb.ListComponentsResponse, error) {
	if !in.GetIncludeUnhealthy() {
		return nil, context.Canceled
	}
	s.events += 500
	s.components[0].Metrics["events_processed_total"] = number(s.events)
	return &flowctlv1pb.ListComponentsResponse{Components: s.components}, nil
}

func component(id string, kind flowctlv1pb.ComponentType, in, out []string, metrics map[string]string) *flowctlv1pb.ComponentStatusResponse {
	return &flowctlv1pb.ComponentStatusResponse{
		Component:     &flowctlv1pb.ComponentInfo{Id: id, Type: kind, InputEventTypes: in, OutputEventTypes: out},
		Status:        flowctlv1pb.HealthStatus_HEALTH_STATUS_HEALTHY,
		LastHeartbeat: timestamppb.New(time.Now().Add(-2 * time.Second)),
		Metrics:       metrics,
	}
}

func TestStockControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &stock{components: []*flowctlv1pb.ComponentStatusResponse{
			component("source", flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE, nil, []string{"ledgers"},
				map[string]string{"current_inflight": "10", "max_inflight": "100", "throttle_rate": "0.25"}),
			component("sink", flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER, []string{"ledgers"}, nil,
				map[string]string{"current_inflight": "90", "max_inflight": "100", "queue_depth": "7", "events_per_second": "12345", "free text": "of another team"}),
		}}
		from := newReader(serve(t, func(s *grpc.Server) { flowctlv1pb.RegisterServer(s, server) }))
		_, err := from.read(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second)

		var out bytes.Buffer
		require.NoError(t, show(t.Context(), options{once: true, output: "table", address: "plane:8080"}, from, &out))
		text := out.String()
		require.Contains(t, text, "plane:8080")
		require.Contains(t, text, "load 90%")
		require.Contains(t, text, "fraction 0.25")
		source, sink := rowOf(t, text, "source"), rowOf(t, text, "sink")
		require.Equal(t, []string{"source", "source", "healthy", "█·······", "10%", "10/100", "0", "500", "0%", "0.25"}, source[:10], "the rate is that of the totals")
		require.Equal(t, []string{"sink", "*", "sink", "healthy", "███████·", "90%", "90/100", "7", "12.3k"}, sink[:9], "the star marks the bottleneck")
	})
}

type older struct{ flowctlpb.Server }

func (older) ListServices(context.Context, *emptypb.Empty) (*flowctlpb.ServiceList, error) {
	return &flowctlpb.ServiceList{Services: []*flowctlpb.ServiceStatus{{
		ServiceId: "old", ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR, IsHealthy: false,
		LastHeartbeat: timestamppb.Now(), Metrics: map[string]float64{"current_inflight": 3},
	}}}, nil
}

func TestLatencyIsThatOfThePath(t *testing.T) {
	node := func(id string, ms int, upstreams ...string) topology.Node {
		return topology.Node{ID: id, Upstreams: upstreams, Status: topology.Status{Latency: time.Duration(ms) * time.Millisecond}}
	}
	fan := (&topology.Graph{Nodes: []topology.Node{node("a", 1), node("b", 10, "a"), node("c", 100, "b"), node("d", 20, "b")}}).Normalize()
	require.Equal(t, 111*time.Millisecond, longest(fan), "and not the sum over all sinks")
	round := (&topology.Graph{Nodes: []topology.Node{node("a", 1, "b"), node("b", 10, "a")}}).Normalize()
	require.GreaterOrEqual(t, longest(round), 10*time.Millisecond)

	r := newReader(nil)
	r.status("sink", map[string]float64{"end_to_end_latency_ms": 700}, time.Now())
	r.status("other", map[string]float64{"end_to_end_latency_ms": math.NaN(), "processing_latency_ms": 1e300}, time.Now())
	require.Equal(t, 700*time.Millisecond, r.measured)
}

func TestOlderControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := newReader(serve(t, func(s *grpc.Server) { flowctlpb.RegisterServer(s, older{}) }))
		var out bytes.Buffer
		require.NoError(t, show(t.Context(), options{once: true, output: "table"}, from, &out))
		require.Equal(t, []string{"old", "processor", "unhealthy"}, rowOf(t, out.String(), "old")[:3])
	})
}

func TestSluiceControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, err := controlplane.NewServer(controlplane.ServerConfig{})
		require.NoError(t, err)
		defer server.Close()
		conn := serve(t, func(s *grpc.Server) { server.Register(s) })
		register := flowctlv1pb.Client{Conn: conn}
		for id, upstreams := range map[string]string{"source": "", "sink": "source"} {
			_, err := register.RegisterComponent(t.Context(), &flowctlv1pb.RegisterRequest{Component: &flowctlv1pb.ComponentInfo{
				Id: id, Metadata: map[string]string{"sluice.upstreams": upstreams},
			}})
			require.NoError(t, err)
		}
		require.NoError(t, server.Controller().Report(backpressure.Report{ServiceID: "sink", InFlight: 50, MaxInFlight: 100}))
		for format, want := range map[string]string{"table": "50%", "json": `"sink"`, "mermaid": "flowchart LR", "dot": "digraph", "svg": "<svg", "ascii": "sink"} {
			var out bytes.Buffer
			require.NoError(t, show(t.Context(), options{once: true, output: format}, newReader(conn), &out), format)
			require.Contains(t, out.String(), want, format)
		}
	})
}

func TestNamesOfOthersCannotSteerTheTerminal(t *testing.T) {
	hostile := "\x1b[2J\x1b]0;owned\a\u202eknis\n" + strings.Repeat("x", 300)
	graph := (&topology.Graph{Nodes: []topology.Node{{ID: hostile, Kind: topology.Kind(hostile), Status: topology.Status{Health: topology.Health(hostile)}}}})
	var out bytes.Buffer
	require.NoError(t, (&screen{to: &out}).print(graph))
	require.NotContains(t, out.String(), "\x1b")
	require.NotContains(t, out.String(), "\u202e")
	require.NotContains(t, out.String(), "\a")
	for line := range strings.Lines(out.String()) {
		require.Less(t, len(line), 400)
	}
}

func TestLostControlPlaneLeavesThePicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := grpc.NewServer()
		flowctlpb.RegisterServer(server, older{})
		conn := serveOn(t, server)
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		done := make(chan error)
		go func() {
			done <- show(ctx, options{output: "table", interval: time.Second}, newReader(conn), &out)
		}()
		time.Sleep(1500 * time.Millisecond)
		server.Stop()
		time.Sleep(30 * time.Second)
		cancel()
		require.NoError(t, <-done)
		last := out.String()[strings.LastIndex(out.String(), "COMPONENT"):]
		require.Contains(t, last, "old")
		require.Contains(t, last, "control plane lost")
	})
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-o", "yaml"}, `-o is "yaml", want table, json, mermaid, dot, svg or ascii`},
		{[]string{"-interval", "1ms"}, "-interval is 1ms, want 100ms or more"},
		{[]string{"a:1", "b:2"}, "2 addresses, want one at most"},
		{[]string{"-ca", os.DevNull}, "holds no PEM certificate"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, run(t.Context(), test.args, &stdout, &stderr), test.args)
		require.Contains(t, stderr.String(), test.want)
		require.Empty(t, stdout.String())
	}
}

func TestTokenIsNotSentInTheClear(t *testing.T) {
	_, err := bearer{token: "secret", address: "plane.example:8080"}.GetRequestMetadata(t.Context())
	require.ErrorContains(t, err, "in the clear")
	for _, address := range []string{"127.0.0.1:8080", "[::1]:8080", "localhost:8080"} {
		sent, err := bearer{token: "secret", address: address}.GetRequestMetadata(t.Context())
		require.NoError(t, err)
		require.Equal(t, "Bearer secret", sent["authorization"])
	}
}

func rowOf(t *testing.T, text, id string) []string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, id+" ") {
			return strings.Fields(line)
		}
	}
	require.Fail(t, "no row of "+id, text)
	return nil
}

func serve(t *testing.T, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	server := grpc.NewServer()
	register(server)
	return serveOn(t, server)
}

func serveOn(t *testing.T, server *grpc.Server) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///plane",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		<-done
	})
	return conn
}
