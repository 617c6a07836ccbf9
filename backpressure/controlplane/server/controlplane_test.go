package server_test

import (
	"context"
	"net"
	"sync"
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
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// plane is a control plane on bufconn that can be restarted.
type plane struct {
	t        *testing.T
	listener atomic.Pointer[bufconn.Listener]
	server   *server.Server
	grpc     *grpc.Server
	done     chan struct{}
}

func startPlane(t *testing.T, cfg server.Config) *plane {
	t.Helper()
	p := &plane{t: t}
	p.start(cfg)
	t.Cleanup(p.stop)
	return p
}

func (p *plane) start(cfg server.Config) {
	var err error
	p.server, err = server.New(cfg)
	require.NoError(p.t, err)
	p.grpc = grpc.NewServer()
	p.server.Register(p.grpc)
	listener := bufconn.Listen(1 << 16)
	p.done = make(chan struct{})
	go func() { defer close(p.done); p.grpc.Serve(listener) }()
	p.listener.Store(listener)
}

func (p *plane) stop() {
	if p.grpc == nil {
		return
	}
	p.listener.Store(nil)
	p.server.Close()
	p.grpc.Stop()
	<-p.done
	p.grpc = nil
}

func (p *plane) dial() *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient("passthrough:///plane",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			if listener := p.listener.Load(); listener != nil {
				return listener.DialContext(ctx)
			}
			return nil, net.ErrClosed
		}))
	require.NoError(p.t, err)
	return conn
}

// part is a component with a load that a test sets, and its agent.
type part struct {
	*agent.Agent
	inFlight, limit atomic.Int64
	fraction        atomicFraction
	stop            func()
}

type atomicFraction struct {
	mu   sync.Mutex
	v    float64
	sets int
}

func (f *atomicFraction) SetFraction(v float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.v = v
	f.sets++
}

func (f *atomicFraction) get() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sets == 0 {
		return 1
	}
	return f.v
}

func startPart(t *testing.T, p *plane, c controlplane.Component) *part {
	t.Helper()
	conn := p.dial()
	x := &part{}
	x.limit.Store(100)
	agent, err := agent.New(agent.Config{
		Conn:      conn,
		Component: c,
		Report: func() backpressure.Report {
			return backpressure.Report{InFlight: x.inFlight.Load(), MaxInFlight: x.limit.Load()}
		},
		Targets: []backpressure.FractionSetter{&x.fraction},
	})
	require.NoError(t, err)
	x.Agent = agent
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); agent.Run(ctx) }()
	x.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		conn.Close()
	})
	t.Cleanup(x.stop)
	return x
}

func TestLoadGoesUpAndTheDecisionComesDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Policy: backpressure.Step{}}})
		source := startPart(
			t, p, controlplane.Component{ID: "source", Kind: topology.KindSource, OutputEventTypes: []string{"ledgers"}},
		)
		sink := startPart(
			t, p, controlplane.Component{ID: "sink", Kind: topology.KindSink, InputEventTypes: []string{"ledgers"}},
		)
		time.Sleep(3 * time.Second)
		require.Equal(t, backpressure.Coordinated, source.Mode())
		require.Equal(t, 1.0, source.fraction.get())

		sink.inFlight.Store(90)
		time.Sleep(150 * time.Millisecond) // one look at the load, and the way there and back
		require.Equal(t, 0.5, source.fraction.get(), "the source is throttled for the sink's load")
		require.True(t, source.Signal().Active)
		require.Equal(t, "sink", source.Signal().ServiceID)

		sink.inFlight.Store(10)
		time.Sleep(150 * time.Millisecond)
		require.Equal(t, 1.0, source.fraction.get())
	})
}

func TestEventTypesMakeThePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		startPart(t, p, controlplane.Component{ID: "sink", Kind: topology.KindSink, InputEventTypes: []string{"events"}})
		startPart(
			t,
			p,
			controlplane.Component{
				ID:               "processor",
				Kind:             topology.KindProcessor,
				InputEventTypes:  []string{"ledgers"},
				OutputEventTypes: []string{"events"},
			},
		)
		startPart(
			t, p, controlplane.Component{ID: "source", Kind: topology.KindSource, OutputEventTypes: []string{"ledgers"}},
		)
		time.Sleep(time.Second)
		upstreams := map[string][]string{}
		for _, c := range p.server.Components() {
			upstreams[c.ID] = c.Report.Upstreams
		}
		require.Equal(t, map[string][]string{"sink": {"processor"}, "processor": {"source"}, "source": {}}, upstreams,
			"whichever registers first")
	})
}

func TestRestartedPlaneKeepsThePipelinesFraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := server.Config{Decision: backpressure.Config{Policy: backpressure.Step{}}}
		p := startPlane(t, cfg)
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		sink := startPart(t, p, controlplane.Component{ID: "sink", Kind: topology.KindSink, Upstreams: []string{"source"}})
		sink.inFlight.Store(95)
		time.Sleep(3 * time.Second)
		require.Equal(t, 0.5, source.fraction.get())

		p.stop()
		p.start(cfg)
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			require.LessOrEqual(t, source.fraction.get(), 0.5, "a restart must not release the pipeline")
		}
		require.Equal(t, backpressure.Coordinated, source.Mode())
		require.Equal(t, uint64(1), source.Stats().Reconnects["unreachable"]+source.Stats().Reconnects["closed"])
	})
}

func TestComponentGoesOnWithoutAControlPlane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Policy: backpressure.Step{Active: 0.1}}})
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		sink := startPart(t, p, controlplane.Component{ID: "sink", Kind: topology.KindSink, Upstreams: []string{"source"}})
		sink.inFlight.Store(95)
		time.Sleep(3 * time.Second)
		require.Equal(t, 0.1, source.fraction.get())

		p.stop()
		time.Sleep(2 * time.Second)
		require.Equal(t, backpressure.Alone, source.Mode())
		require.Equal(t, 0.1, source.fraction.get(), "first the last fraction")
		time.Sleep(10 * time.Second)
		require.Equal(t, source.Local().Config().SafeFraction, source.fraction.get(), "then the safe one")

		source.inFlight.Store(99)
		time.Sleep(time.Second)
		require.Less(t, source.fraction.get(), 0.99, "its own load still counts")
	})
}

// What an agent decided by itself in one outage must not count in the next.
func TestASecondOutageStartsAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		time.Sleep(3 * time.Second)
		p.stop()
		source.inFlight.Store(97)
		time.Sleep(30 * time.Second)
		require.Less(t, source.fraction.get(), 0.3, "alone, its own load closes it")
		p.start(server.Config{})
		for source.Mode() != backpressure.Coordinated {
			time.Sleep(100 * time.Millisecond)
		}
		source.inFlight.Store(20) // calm only now: the local decision sleeps, closed
		time.Sleep(10 * time.Minute)
		require.Equal(t, backpressure.Coordinated, source.Mode())
		require.Equal(t, 1.0, source.fraction.get())
		source.inFlight.Store(75) // below the activation threshold, above the target
		time.Sleep(5 * time.Second)
		p.stop()
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			require.Equal(t, 1.0, source.fraction.get())
		}
	})
}

func TestForgottenComponentRegistersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		time.Sleep(time.Second)
		require.NoError(t, newCaller(t, p).unregister("source"))
		time.Sleep(2 * time.Second)
		require.Len(t, p.server.Components(), 1)
		require.Equal(t, backpressure.Coordinated, source.Mode())
	})
}

func TestComponentThatLeavesIsGoneAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		sink := startPart(t, p, controlplane.Component{ID: "sink", Kind: topology.KindSink})
		sink.inFlight.Store(100)
		time.Sleep(2 * time.Second)
		require.True(t, p.server.Controller().Active())
		sink.stop()
		time.Sleep(time.Millisecond)
		require.Empty(t, p.server.Components())
		require.Empty(t, p.server.Controller().Snapshot().Services)
	})
}

func TestACrashedComponentShowsAsDownBeforeItIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		require.NoError(t, c.register("sink"))
		stream, err := c.own.Coordinate(c.ctx)
		require.NoError(t, err)
		require.NoError(t, stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Hello{Hello: &sluicepb.Hello{ServiceId: "sink"}}}))
		require.NoError(
			t,
			stream.Send(
				&sluicepb.Up{
					Message: &sluicepb.Up_Beat{Beat: &sluicepb.Beat{Load: &sluicepb.Load{InFlight: 95, MaxInFlight: 100}}},
				},
			),
		)
		time.Sleep(2 * time.Second)
		require.Equal(t, topology.HealthHealthy, p.server.Topology().Nodes[0].Health)
		require.NoError(t, stream.CloseSend()) // no good-bye
		time.Sleep(2 * time.Second)
		require.Equal(t, topology.HealthHealthy, p.server.Topology().Nodes[0].Health, "an agent may reconnect")
		time.Sleep(2 * time.Second)
		require.Equal(t, topology.HealthDown, p.server.Topology().Nodes[0].Health)
		require.True(t, p.server.Controller().Active(), "a cut connection does not release the pipeline")
	})
}

func TestAnObservedEdgeCarriesItsPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		require.NoError(t, c.register("source"))
		require.NoError(t, c.register("sink"))
		go c.stream("sink", &sluicepb.Beat{
			Metrics: map[string]float64{
				controlplane.MetricPoolTotalPrefix + "10.0.0.1:8815":   4,
				controlplane.MetricPoolHealthyPrefix + "10.0.0.1:8815": 3,
			},
			Edges: []*sluicepb.Edge{{Upstream: "source", Endpoint: "10.0.0.1:8815", Connected: true}},
		})
		time.Sleep(time.Second)
		edge, ok := p.server.Topology().Edge("source", "sink")
		require.True(t, ok)
		require.Equal(t, 4, edge.Pool.Total)
		require.Equal(t, 3, edge.Pool.Healthy)
	})
}

// TestAMeasuredLatencyShows in place of the sum, while its sink is there and it
// can be true.
func TestAMeasuredLatencyShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		require.NoError(t, c.register("sink"))
		require.NoError(t, c.register("other"))
		say := func(id string, ms float64) {
			go c.stream(id, &sluicepb.Beat{Metrics: map[string]float64{controlplane.MetricEndToEnd: ms}})
			time.Sleep(time.Second)
		}
		pipeline := func() topology.Pipeline { return p.server.Topology().Pipeline }
		require.False(t, pipeline().LatencyMeasured)
		say("sink", 300)
		require.Equal(t, 300*time.Millisecond, pipeline().Latency)
		require.True(t, pipeline().LatencyMeasured)
		say("other", 700)
		require.Equal(t, 700*time.Millisecond, pipeline().Latency, "the longest")
		for _, impossible := range []float64{0, -1, 1e300} {
			say("other", impossible)
			require.Equal(t, 300*time.Millisecond, pipeline().Latency)
		}
	})
}

// An edge that fills up between two heartbeats shows before the second.
func TestFiguresOfAnEdgeThatMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		conn := p.dial()
		defer conn.Close()
		var inFlight atomic.Int64
		var blocked atomic.Bool
		agent, err := agent.New(agent.Config{
			Conn: conn, HeartbeatInterval: time.Minute,
			Component: controlplane.Component{ID: "sink", Kind: topology.KindSink},
			Report: func() backpressure.Report {
				return backpressure.Report{InFlight: inFlight.Add(1) % 3, MaxInFlight: 100}
			},
			Edges: func() []topology.Edge {
				e := topology.Edge{
					From:       "source",
					State:      topology.StateConnected,
					Throughput: 100,
					ByteRate:   5000,
					Latency:    time.Millisecond,
				}
				if blocked.Load() {
					e.Blocked = 0.9
				}
				return []topology.Edge{e}
			},
		})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- agent.Run(ctx) }()
		time.Sleep(5 * time.Second)
		edge, ok := p.server.Topology().Edge("source", "sink")
		require.True(t, ok)
		require.Zero(t, edge.Blocked)
		require.Equal(t, 5000.0, edge.ByteRate)
		require.Equal(t, time.Millisecond, edge.Latency)
		blocked.Store(true)
		time.Sleep(3 * time.Second)
		edge, _ = p.server.Topology().Edge("source", "sink")
		require.Equal(t, 0.9, edge.Blocked)
		stop()
		require.NoError(t, <-ended)
	})
}
