// Package serve is the control plane as a program: its gRPC services, and beside
// them HTTP with metrics, health, the decision and the live page. Command
// sluice-controlplane is [Run] with flags; the reference pipeline runs the same.
package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/monitor"
	monitorhealth "github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/prommonitor"
	"github.com/withobsrvr/sluice/topology/page"
)

// Config configures [Run]. A zero field is its default.
type Config struct {
	// GRPC is where the services listen; Run closes it. Required.
	GRPC net.Listener
	// HTTP is where metrics, health and the page listen; Run closes it. Nil: no
	// HTTP.
	HTTP net.Listener
	// Server configures the control plane itself.
	Server server.Config
	// TLS, if not nil, secures gRPC; with ClientCAs and RequireAndVerifyClientCert
	// in it, mutually. Default: plaintext, fit for loopback alone.
	TLS *tls.Config
	// Options are further options of the gRPC server.
	Options []grpc.ServerOption
	// Middleware, if not nil, stands before everything that HTTP serves.
	Middleware func(http.Handler) http.Handler
	// Version is shown in health documents.
	Version string
	// Interval is how often figures are collected and alerts evaluated. Default 5 s.
	Interval time.Duration
	// Grace bounds the orderly end of open calls. Default 2 s.
	Grace time.Duration
	// Ready, if not nil, is called once everything serves.
	Ready func(*server.Server)
	// Logger receives what the program does. Default: silence.
	Logger *slog.Logger
}

// Run serves until ctx ends, then closes everything in order and returns nil.
func Run(ctx context.Context, cfg Config) error {
	if cfg.GRPC == nil {
		return errors.New("serve: Config.GRPC is nil, want a listener")
	}
	cfg.Grace = cmp.Or(cfg.Grace, 2*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Server.Logger = cmp.Or(cfg.Server.Logger, cfg.Logger)
	plane, err := server.New(cfg.Server)
	if err != nil {
		return err
	}
	defer plane.Close()

	services := grpc.NewServer(cfg.options()...)
	plane.Register(services)
	serving := health.NewServer()
	grpc_health_v1.RegisterHealthServer(services, serving)
	reflection.Register(services)

	failed := make(chan error, 2)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		if err := services.Serve(cfg.GRPC); err != nil {
			failed <- fmt.Errorf("serve: gRPC on %s: %w", cfg.GRPC.Addr(), err)
		}
	})
	defer stop(services, cfg.Grace)
	defer plane.Close() // ends the agents' streams, which a graceful stop would wait for
	defer serving.Shutdown()

	if cfg.HTTP != nil {
		handler, done, err := newHandler(plane, cfg)
		if err != nil {
			return err
		}
		defer done()
		if cfg.Middleware != nil {
			handler = cfg.Middleware(handler)
		}
		web := &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog:    slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
			BaseContext: func(net.Listener) context.Context { return ctx },
		}
		running.Go(func() {
			if err := web.Serve(cfg.HTTP); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve: HTTP on %s: %w", cfg.HTTP.Addr(), err)
			}
		})
		defer func() {
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Grace)
			defer cancel()
			if web.Shutdown(grace) != nil {
				web.Close()
			}
		}()
		cfg.Logger.Info("control plane serves HTTP", "address", cfg.HTTP.Addr().String())
	}
	cfg.Logger.Info("control plane serves gRPC", "address", cfg.GRPC.Addr().String())
	if cfg.Ready != nil {
		cfg.Ready(plane)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (c *Config) options() []grpc.ServerOption {
	options := server.GRPCOptions()
	address := slog.String("address", c.GRPC.Addr().String())
	switch {
	case c.TLS != nil:
		options = append(options, grpc.Creds(credentials.NewTLS(c.TLS)))
	case loopback(c.GRPC.Addr()):
		c.Logger.Info("gRPC is plaintext, on loopback only", address)
	default:
		c.Logger.Warn("gRPC is plaintext beyond loopback: any caller on the network can read and steer the pipeline", address)
	}
	if c.Server.Token != "" {
		options = append(options, server.BearerToken(c.Server.Token, c.Server.AdminToken)...)
	}
	return append(options, c.Options...)
}

// loopback: also what is no TCP address, as bufconn.
func loopback(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// stop lets open calls end, for a grace.
func stop(services *grpc.Server, grace time.Duration) {
	hard := time.AfterFunc(grace, services.Stop)
	defer hard.Stop()
	services.GracefulStop()
}

// State is the decision as /state shows it.
type State struct {
	Fraction    float64            `json:"fraction"`
	Load        float64            `json:"load"`
	Active      bool               `json:"active"`
	Activations uint64             `json:"activations"`
	Learning    bool               `json:"learning"`
	Throughput  float64            `json:"throughput"`
	LatencyMs   float64            `json:"latency_ms"`
	Measured    bool               `json:"latency_measured"`
	Loads       map[string]float64 `json:"loads"`
	Fractions   map[string]float64 `json:"fractions"`
}

// stateOf is the present state of all decisions.
func stateOf(plane *server.Server) State {
	snapshot := plane.Snapshot()
	pipeline := plane.Topology().Pipeline
	state := State{
		Fraction:    snapshot.Fraction,
		Load:        snapshot.Load,
		Active:      snapshot.Active,
		Activations: snapshot.Activations,
		Learning:    snapshot.Learning,
		Throughput:  pipeline.Throughput,
		LatencyMs:   float64(pipeline.Latency) / float64(time.Millisecond),
		Measured:    pipeline.LatencyMeasured,
		Loads:       map[string]float64{},
		Fractions:   map[string]float64{},
	}
	for _, service := range snapshot.Services {
		state.Loads[service.ServiceID] = service.Load
		state.Fractions[service.ServiceID] = service.Admitted
	}
	return state
}

// newHandler serves the decision, metrics, health and the live page. The
// components export their own figures, so that sums over scrapes count nothing
// twice; the control plane exports the pipeline's.
func newHandler(plane *server.Server, cfg Config) (handler http.Handler, done func(), err error) {
	watch, err := newMonitor(plane, monitor.Config{Interval: cfg.Interval})
	if err != nil {
		return nil, nil, err
	}
	metrics, err := prommonitor.NewHandler(watch, prommonitor.HandlerConfig{})
	if err != nil {
		return nil, nil, err
	}
	well, err := monitorhealth.New(watch, monitorhealth.Config{
		ServiceID: "sluice-controlplane", Version: cfg.Version, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, nil, err
	}
	watch.Start()
	observed := well.Handler(metrics)
	mux := http.NewServeMux()
	for _, path := range []string{"/metrics", "/livez", "/readyz", "/health", "/report", "/alerts", "/history"} {
		mux.Handle(path, observed)
		mux.Handle(path+"/", observed)
	}
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(stateOf(plane))
	})
	live := page.New(withAlerts(plane, well.Alerts().Alerts), page.Config{})
	mux.Handle("/", live)
	return mux, func() { live.Close(); watch.Stop() }, nil
}

func newMonitor(plane *server.Server, cfg monitor.Config) (*monitor.Monitor, error) {
	cfg.Scope = monitor.LocalServices
	watch, err := monitor.New(cfg)
	if err != nil {
		return nil, err
	}
	watch.WatchController(decider{plane})
	watch.WatchTopology(plane)
	watch.Watch(monitor.SourceFunc(func(d *monitor.Draft) {
		for _, id := range plane.Stock() {
			d.Foreign(id)
		}
	}))
	return watch, nil
}

// A decider is watched for the decisions alone: what the components report is in
// the graph, too.
type decider struct{ *server.Server }

func (d decider) Snapshot() backpressure.Snapshot { return d.Overview() }
