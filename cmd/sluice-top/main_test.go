package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"io"
	"math"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
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
func join(t *testing.T, conn grpc.ClientConnInterface, c controlplane.Component, report backpressure.Report,
	metrics func() map[string]float64,
) {
	member, err := agent.New(agent.Config{
		Conn: conn, Component: c, Report: func() backpressure.Report { return report }, Metrics: metrics,
		HeartbeatInterval: time.Second,
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
		require.Equal(t, []string{"source", "source", "healthy", "█·······", "10%", "10/100", "0", "500", "0%"}, source[:9],
			"the rate is that of the totals")
		require.Equal(t, []string{"sink", "sink", "healthy", "██████··", "79%", "79/100", "7", "12.3k"}, sink[:8])
	})
}

// TestFiguresThatCannotBe of a stock component count as zero, as on the page, and
// its pools are edges there and here.
func TestFiguresThatCannotBe(t *testing.T) {
	c := &controlplane.Status{Metrics: map[string]float64{
		"current_inflight": 1e300, "queue_depth": -3, "inflight_utilization": math.NaN(), "events_per_second": math.Inf(1),
		"pool_total_connections:in:1": 4, "pool_healthy_connections:in:1": 2,
	}}
	c.ID = "sink"
	node, edges := newReader(nil).node(c, time.Now())
	require.GreaterOrEqual(t, node.InFlight, int64(0))
	require.Zero(t, node.QueueDepth)
	require.Zero(t, node.Load)
	require.False(t, math.IsInf(node.OutRate, 0))
	require.Len(t, edges, 1)
	require.Equal(t, topology.StateDegraded, edges[0].State)
}

func TestLatencyIsThatOfThePath(t *testing.T) {
	node := func(id string, ms int, upstreams ...string) topology.Node {
		return topology.Node{
			ID: id, Upstreams: upstreams,
			Status: topology.Status{Latency: time.Duration(ms) * time.Millisecond},
		}
	}
	fan := (&topology.Graph{Nodes: []topology.Node{
		node("a", 1), node("b", 10, "a"), node("c", 100, "b"),
		node("d", 20, "b"),
	}}).Normalize()
	require.Equal(t, 111*time.Millisecond, longest(fan), "and not the sum over all sinks")
	round := (&topology.Graph{Nodes: []topology.Node{node("a", 1, "b"), node("b", 10, "a")}}).Normalize()
	require.GreaterOrEqual(t, longest(round), 10*time.Millisecond)

	r := newReader(nil)
	for _, ms := range []float64{700, math.NaN()} {
		r.node(&controlplane.Status{Metrics: map[string]float64{controlplane.MetricEndToEnd: ms}}, time.Now())
	}
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
		join(t, conn, controlplane.Component{ID: "sink", Upstreams: []string{"source"}},
			backpressure.Report{InFlight: 50, MaxInFlight: 100}, nil)
		time.Sleep(1500 * time.Millisecond)
		for format, want := range map[string]string{
			"table": "50%", "json": `"sink"`, "mermaid": "flowchart LR",
			"dot": "digraph", "svg": "<svg", "ascii": "sink",
		} {
			var out bytes.Buffer
			require.NoError(t, show(t.Context(), options{once: true, output: format}, newReader(conn), &out), format)
			require.Contains(t, out.String(), want, format)
		}
	})
}

func TestNamesOfOthersCannotSteerTheTerminal(t *testing.T) {
	hostile := "\x1b[2J\x1b]0;owned\a\u202eknis\n" + strings.Repeat("x", 300)
	graph := (&topology.Graph{Nodes: []topology.Node{{
		ID: hostile, Kind: topology.Kind(hostile),
		Status: topology.Status{Health: topology.Health(hostile)},
	}}})
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
		{[]string{"-tls-ca", os.DevNull}, "-tls-ca: " + os.DevNull + " holds no PEM certificate"},
		{[]string{"-tls-cert", "x.pem"}, "-tls-cert and -tls-key are given together or not at all"},
		{[]string{"-tls-cert", "missing.pem", "-tls-key", "missing.pem"}, "-tls-cert, -tls-key: open missing.pem"},
		{[]string{"-token-file", "missing"}, "-token-file: open missing"},
		{[]string{"-token-file", os.DevNull}, "-token-file: " + os.DevNull + " is empty"},
		{[]string{"-token", "x", "-token-file", os.DevNull}, "-token and -token-file are both given"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, run(t.Context(), test.args, none, &stdout, &stderr), test.args)
		require.Contains(t, stderr.String(), test.want)
		require.Empty(t, stdout.String())
	}
}

func none(string) (string, bool) { return "", false }

func TestHelpAndVersion(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"-h"}, none, &stdout, &stderr))
	require.Contains(t, stderr.String(), "-tls-cert")
	require.Zero(t, run(t.Context(), []string{"-version"}, none, &stdout, &stderr))
	require.Contains(t, stdout.String(), "sluice-top ")
}

// Each flag has a variable, a flag wins, and a variable's mistake is named.
func TestEachFlagHasAVariable(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("secret\n"), 0o600))
	environment := map[string]string{
		"SLUICE_TOP_ADDRESS": "plane:1", "SLUICE_TOP_INTERVAL": "2s", "SLUICE_TOP_ONCE": "true", "SLUICE_TOP_O": "dot",
		"SLUICE_TOP_TLS": "true", "SLUICE_TOP_TLS_CA": "ca", "SLUICE_TOP_TLS_CERT": "cert", "SLUICE_TOP_TLS_KEY": "key",
		"SLUICE_TOP_TOKEN_FILE": token, "SLUICE_TOP_VERSION": "true",
	}
	lookup := func(name string) (string, bool) { value, ok := environment[name]; return value, ok }
	opts, err := parse(nil, lookup, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{
		address: "plane:1", interval: 2 * time.Second, once: true, output: "dot", tls: true, ca: "ca",
		certificate: "cert", key: "key", token: "secret", tokenFile: token, version: true,
	}, opts)
	newFlags(&opts, io.Discard).VisitAll(func(f *flag.Flag) {
		_, set := environment[variable(f.Name)]
		require.True(t, set || f.Name == "token", "-%s has a variable in this test", f.Name)
	})

	opts, err = parse([]string{"-o", "json", "other:2"}, lookup, io.Discard)
	require.NoError(t, err)
	require.Equal(t, "json", opts.output)
	require.Equal(t, "other:2", opts.address)

	environment["SLUICE_TOP_INTERVAL"] = "soon"
	_, err = parse(nil, lookup, io.Discard)
	require.ErrorContains(t, err, `SLUICE_TOP_INTERVAL is "soon"`)
}

// A control plane that asks for a client certificate is shown to one that has it,
// and to no other.
func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	authority, authorityKey := certificate(t, "authority", nil, nil)
	files := map[string]string{"ca": write(t, dir, "ca.pem", "CERTIFICATE", authority.Raw)}
	for _, name := range []string{"server", "client"} {
		cert, key := certificate(t, name, authority, authorityKey)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		files[name] = write(t, dir, name+".pem", "CERTIFICATE", cert.Raw)
		files[name+"-key"] = write(t, dir, name+"-key.pem", "PRIVATE KEY", der)
	}
	own, err := tls.LoadX509KeyPair(files["server"], files["server-key"])
	require.NoError(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	plane, err := server.New(server.Config{})
	require.NoError(t, err)
	defer plane.Close()
	services := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	plane.Register(services)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() { _ = services.Serve(lis) })
	defer serving.Wait()
	defer services.Stop()

	var stdout, stderr bytes.Buffer
	args := []string{"-once", "-tls-ca", files["ca"], lis.Addr().String()}
	require.Equal(t, 1, run(t.Context(), args, none, &stdout, &stderr))
	args = append([]string{"-tls-cert", files["client"], "-tls-key", files["client-key"]}, args...)
	require.Zero(t, run(t.Context(), args, none, &stdout, &stderr), stderr.String())
	require.Contains(t, stdout.String(), lis.Addr().String())
}

// certificate makes one for this machine, signed by parent, or by itself.
func certificate(t *testing.T, name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate,
	*ecdsa.PrivateKey,
) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		IsCA: parent == nil,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

func write(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
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
