package main

import (
	"bytes"
	"context"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/topology"
)

// stock hides what deployed control planes do not have: our stream, and in the
// older ones the newer flowctl service.
type stock struct {
	grpc.ServiceRegistrar
	hide []string
}

func (s stock) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if !slices.Contains(s.hide, desc.ServiceName) {
		s.ServiceRegistrar.RegisterService(desc, impl)
	}
}

const (
	coordination = "sluice.controlplane.v1.Coordination"
	newer        = "flowctl.v1.ControlPlaneService"
)

// planeWithout is a control plane that lacks services.
func planeWithout(t *testing.T, hide ...string) *grpc.ClientConn {
	plane, err := server.New(server.Config{Decision: backpressure.Config{Learn: -1}})
	require.NoError(t, err)
	t.Cleanup(plane.Close)
	return serve(t, func(s *grpc.Server) { plane.Register(stock{s, hide}) })
}

// join runs the agent of a component until the test ends.
func join(t *testing.T, conn grpc.ClientConnInterface, c controlplane.Component, report backpressure.Report, metrics func() map[string]float64) {
	member, err := agent.New(agent.Config{
		Conn: conn, Component: c, Report: func() backpressure.Report { return report }, Metrics: metrics, HeartbeatInterval: time.Second,
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); member.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

func TestStockControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := planeWithout(t, coordination)
		var events atomic.Int64
		join(t, conn, controlplane.Component{ID: "source", Kind: topology.KindSource, OutputEventTypes: []string{"ledgers"}},
			backpressure.Report{InFlight: 10, MaxInFlight: 100}, func() map[string]float64 {
				return map[string]float64{"events_processed_total": float64(events.Add(500))}
			})
		join(t, conn, controlplane.Component{ID: "sink", Kind: topology.KindSink, InputEventTypes: []string{"ledgers"}},
			backpressure.Report{InFlight: 79, MaxInFlight: 100, QueueDepth: 7, Throughput: 12345}, nil)
		time.Sleep(1500 * time.Millisecond)
		from := newReader(conn)
		_, err := from.read(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second)

		var out bytes.Buffer
		require.NoError(t, show(t.Context(), options{once: true, output: "table", address: "plane:8080"}, from, &out))
		text := out.String()
		require.Contains(t, text, "plane:8080")
		require.Contains(t, text, "load 79%")
		source, sink := rowOf(t, text, "source"), rowOf(t, text, "sink")
		require.Equal(t, []string{"source", "source", "healthy", "█·······", "10%", "10/100", "0", "500", "0%"}, source[:9], "the rate is that of the totals")
		require.Equal(t, []string{"sink", "sink", "healthy", "██████··", "79%", "79/100", "7", "12.3k"}, sink[:8])
	})
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
		conn := planeWithout(t, coordination, newer)
		join(t, conn, controlplane.Component{ID: "old", Kind: topology.KindProcessor}, backpressure.Report{InFlight: 3}, nil)
		time.Sleep(1500 * time.Millisecond)
		var out bytes.Buffer
		require.NoError(t, show(t.Context(), options{once: true, output: "table"}, newReader(conn), &out))
		require.Equal(t, []string{"old", "processor", "healthy"}, rowOf(t, out.String(), "old")[:3])
	})
}

func TestSluiceControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := planeWithout(t)
		join(t, conn, controlplane.Component{ID: "source"}, backpressure.Report{}, nil)
		join(t, conn, controlplane.Component{ID: "sink", Upstreams: []string{"source"}}, backpressure.Report{InFlight: 50, MaxInFlight: 100}, nil)
		time.Sleep(1500 * time.Millisecond)
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
		plane, err := server.New(server.Config{})
		require.NoError(t, err)
		defer plane.Close()
		services := grpc.NewServer()
		plane.Register(services)
		conn := serveOn(t, services)
		join(t, conn, controlplane.Component{ID: "old"}, backpressure.Report{}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var out bytes.Buffer
		done := make(chan error)
		go func() {
			done <- show(ctx, options{output: "table", interval: time.Second}, newReader(conn), &out)
		}()
		time.Sleep(1500 * time.Millisecond)
		services.Stop()
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
