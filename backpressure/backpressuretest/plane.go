package backpressuretest

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

// A ControlPlane is a control plane in memory, with its own gRPC server on bufconn.
// Everything of it runs in the bubble of testing/synctest that it was made in, if
// there is one: an hour of heartbeats takes no time.
type ControlPlane struct {
	t   testing.TB
	cfg server.Config

	mu       sync.Mutex
	listener *bufconn.Listener // nil: stopped
	server   *server.Server
	services *grpc.Server
	serving  chan struct{}
}

// NewControlPlane starts a control plane that ends with the test. A bad cfg ends the
// test at once.
func NewControlPlane(t testing.TB, cfg server.Config) *ControlPlane {
	t.Helper()
	p := &ControlPlane{t: t, cfg: cfg}
	p.Start()
	t.Cleanup(p.Stop)
	return p
}

// Start starts it again after Stop, with nothing remembered but what cfg.Folder holds.
// One that runs is left alone.
func (p *ControlPlane) Start() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		return
	}
	plane, err := server.New(p.cfg)
	if err != nil {
		p.t.Fatalf("backpressuretest: %v", err)
	}
	services := grpc.NewServer()
	plane.Register(services)
	listener, serving := bufconn.Listen(64<<10), make(chan struct{})
	go func() {
		defer close(serving)
		_ = services.Serve(listener) // ends by Stop
	}()
	p.listener, p.server, p.services, p.serving = listener, plane, services, serving
}

// Stop kills it: connections break, and new ones fail. No agent hears of it: it is as a
// crash is, and not as server.Server.Close. It may be called more than once.
func (p *ControlPlane) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener == nil {
		return
	}
	p.listener = nil
	p.services.Stop()
	<-p.serving
	p.server.Close()
}

// Server returns the server that runs, or ran last. Each Start makes a new one.
func (p *ControlPlane) Server() *server.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server
}

// Dial returns a connection to it that survives Stop and Start, and ends with
// the test. It is what an agent's Conn takes.
func (p *ControlPlane) Dial() *grpc.ClientConn {
	p.t.Helper()
	conn, err := grpc.NewClient("passthrough:///controlplane",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			p.mu.Lock()
			listener := p.listener
			p.mu.Unlock()
			if listener == nil {
				return nil, net.ErrClosed
			}
			return listener.DialContext(ctx)
		}))
	if err != nil {
		p.t.Fatalf("backpressuretest: %v", err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// Run runs an agent on a connection of its own until the test ends, or stop is
// called. stop waits until the agent has unregistered and ended; cfg.Conn and
// cfg.Endpoint are not used.
func (p *ControlPlane) Run(cfg agent.Config) (member *agent.Agent, stop func()) {
	p.t.Helper()
	cfg.Conn = p.Dial()
	member, err := agent.New(cfg)
	if err != nil {
		p.t.Fatalf("backpressuretest: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = member.Run(ctx) // nil by contract
	}()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	p.t.Cleanup(stop)
	return member, stop
}
