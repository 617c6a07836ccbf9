package component

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/health"
)

// maxBatchBytes is the largest message that is read from an upstream. Our own
// stay below gRPC's default of 4 MiB; those of others may not.
const maxBatchBytes = 16 << 20

// A Component is one program of the pipeline: its listeners, its gates, its
// connections and its HTTP side. It is made by Open and runs in Serve.
type Component struct {
	Config
	Log *slog.Logger

	// Stage counts what was read and not yet handed on or made durable; its
	// load is what the component reports.
	Stage *flowcontrol.Throttler
	// Gate paces what the Flight server sends. A source has no stage of its
	// own: there both are the same.
	Gate *flowcontrol.Throttler

	process      Process
	flight, http net.Listener
	web          *http.Server
	mux          *http.ServeMux
	ready        atomic.Bool
	clock        fractionClock
	peak         peakLoad
	pools        pools
	interceptors *interceptors.Server
	monitor      *monitor.Monitor
	series       *prometheus.Registry
	health       *health.Health
	agent        atomic.Pointer[agent.Agent]
	upstream     atomic.Pointer[upstream]
	closers      []func()
	background   sync.WaitGroup
}

// Open listens on both ports and serves /livez at once. Close frees everything,
// also after an error of Serve.
func Open(cfg Config, p Process) (*Component, error) {
	c := &Component{
		Config: cfg, Log: cfg.NewLogger(p.Log), process: p, mux: http.NewServeMux(),
		series: prometheus.NewRegistry(),
	}
	if err := c.open(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Component) open() (err error) {
	c.Security.Warn(c.Log, c.Host)
	limits := flowcontrol.Config{
		Name:  c.ID,
		Limit: flowcontrol.Cost{Messages: c.MaxMessages, Bytes: c.MaxBytes},
		// A batch that waits for room was accepted already: it is never rejected
		// because others wait, only delayed.
		Queue: flowcontrol.QueueConfig{InOrder: true},
		// The limit is what was promised about memory, and what load is a share of.
		Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOff},
	}
	if c.Stage, err = flowcontrol.New(limits); err != nil {
		return err
	}
	c.Gate = c.Stage
	if c.Role != RoleSource {
		limits.Name += "/server"
		if c.Gate, err = flowcontrol.New(limits); err != nil {
			return err
		}
	}
	if c.flight, err = c.listen(c.FlightPort, "FLIGHT_PORT"); err != nil {
		return err
	}
	if c.http, err = c.listen(c.HealthPort, "HEALTH_PORT"); err != nil {
		return err
	}
	c.interceptors, err = interceptors.NewServer(interceptors.ServerConfig{
		Throttler: c.Gate, Logger: c.Log, MaxActiveStreams: -1, // connections, and streams, bound them
	})
	if err != nil {
		return err
	}
	if err := c.openPools(); err != nil {
		return err
	}
	c.Go(func(ctx context.Context) { c.peak.watch(ctx, c.Stage) })
	return c.serveHTTP()
}

// listen names the variable that changes a port which is taken.
func (c *Component) listen(port int, variable string) (net.Listener, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(c.Host, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("port %d is not free; %s chooses another, 0 any free one: %w", port, variable, err)
	}
	c.closers = append(c.closers, func() { listener.Close() })
	return LimitConnections(listener, MaxConnections), nil
}

// Go runs f until Close, which ends its context and waits for it.
func (c *Component) Go(f func(context.Context)) {
	ctx := c.closing()
	c.background.Go(func() { f(ctx) })
}

// closing returns a context that Close ends.
func (c *Component) closing() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	c.closers = append(c.closers, cancel)
	return ctx
}

// Addresses are where the component serves, as others dial them.
func (c *Component) Addresses() Addresses {
	at := func(l net.Listener) string {
		return net.JoinHostPort(c.Advertise, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return Addresses{Flight: at(c.flight), HTTP: at(c.http)}
}

// Close frees everything and waits for what runs.
func (c *Component) Close() {
	if c.web != nil {
		c.web.Close()
	}
	for i := len(c.closers) - 1; i >= 0; i-- {
		c.closers[i]()
	}
	c.closers = nil
	c.background.Wait()
}

// Drain is closed when the component was asked to end.
func (c *Component) Drain() <-chan struct{} { return c.process.Drain }

// Serve runs the component until it is drained, ctx ends, or something fails.
func (c *Component) Serve(ctx context.Context, s Service) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)

	server, err := c.newServer(s)
	if err != nil {
		return err
	}
	running.Go(func() {
		if err := server.grpc.Serve(c.flight); err != nil {
			cancel(fmt.Errorf("serve %s: %w", c.flight.Addr(), err))
		}
	})
	defer server.grpc.Stop()
	agentDone, err := c.startAgent(ctx, s, &running)
	if err != nil {
		return err
	}
	c.setStatus(s)
	if s.Healthy != nil {
		c.health.AddCheck("upstream", func(context.Context) error { return s.Healthy() })
	}
	c.ready.Store(true)
	c.Log.Info("serving", "flight", c.Addresses().Flight, "http", c.Addresses().HTTP)
	if c.process.Ready != nil {
		c.process.Ready(c.Addresses())
	}

	if s.Run != nil {
		err = s.Run(ctx, c.process.Drain)
	}
	if err == nil && !s.EndsWithRun {
		select {
		case <-c.process.Drain:
		case <-ctx.Done():
		}
	}
	c.ready.Store(false)
	if err == nil && ctx.Err() == nil {
		c.Log.Info("draining")
		server.drain(ctx, c.DrainGrace, c.Log)
		agentDone()
	}
	if err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return nil
}

// A Service is what a component does.
type Service struct {
	// Register adds the component's services to its gRPC server.
	Register func(*grpc.Server)
	// Inputs and Outputs are the types of events that it reads and writes.
	Inputs, Outputs []string
	// Upstreams are the ids of the components that it reads.
	Upstreams []string
	// Run is work of its own beside serving, until it is done or drain is
	// closed; nil for a component that only serves.
	Run func(ctx context.Context, drain <-chan struct{}) error
	// EndsWithRun ends the component when Run is done.
	EndsWithRun bool
	// Work is the component's own part of Status.
	Work func() any
	// Healthy is why the component does not get on, or nil; it is part of its
	// readiness. A nil Healthy is always well.
	Healthy func() error
	// Figures are what it reports to the control plane beside its load.
	Figures func() Figures
}

// Figures are running counts of a component.
type Figures struct {
	Events, Errors int64
	Queued         int64
	Latency        time.Duration
	EndToEnd       time.Duration // measured, from the source on; 0 is unknown
}

// errNoUpstream is for a component that has nothing to read.
var errNoUpstream = errors.New("not set, and ENABLE_FLOWCTL is not true: there is no control plane to ask")
