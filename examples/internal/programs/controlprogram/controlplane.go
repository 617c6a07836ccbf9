// Package controlprogram is the pipeline's control plane as a program.
package controlprogram

import (
	"context"
	"net"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/cmd/sluice-controlplane/serve"
	"github.com/withobsrvr/sluice/examples/internal/component"
)

// Describe reads the control plane's variables and returns what they say.
func Describe(e *component.Env) any { return component.ReadConfig(e, component.RoleControlPlane) }

// Run is the same control plane as the program sluice-controlplane.
func Run(ctx context.Context, p component.Process) error {
	env := component.NewEnv(p.Lookup)
	cfg := component.ReadConfig(env, component.RoleControlPlane)
	if err := env.Usage(); err != nil {
		return err
	}
	grpcListener, err := net.Listen("tcp", component.HostPort(cfg.Host, cfg.FlightPort))
	if err != nil {
		return err
	}
	httpListener, err := net.Listen("tcp", component.HostPort(cfg.Host, cfg.HealthPort))
	if err != nil {
		grpcListener.Close()
		return err
	}
	secure, log := cfg.Security, cfg.NewLogger(p.Log)
	secure.Warn(log, cfg.Host)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.Drain:
			cancel()
		case <-ctx.Done():
		}
	}()
	return serve.Run(ctx, serve.Config{
		GRPC: component.LimitConnections(grpcListener, maxComponents),
		HTTP: secure.ListenHTTP(component.LimitConnections(httpListener, component.MaxConnections)),
		TLS:  secure.ServerTLS(),
		Server: server.Config{
			Decision: backpressure.Config{Activation: cfg.BackpressureThreshold, Recovery: cfg.RecoveryThreshold},
			Token:    secure.Token, AdminToken: secure.AdminToken, Admins: secure.Admins,
		},
		Middleware: secure.Guard,
		Version:    component.Version(),
		Interval:   cfg.MonitoringInterval,
		Grace:      max(cfg.DrainGrace, time.Millisecond), // 0 is its default
		Logger:     log,
		Ready: func(*server.Server) {
			if p.Ready != nil {
				p.Ready(component.Addresses{
					Flight: component.HostPort(cfg.Advertise, grpcListener.Addr().(*net.TCPAddr).Port),
					HTTP:   component.HostPort(cfg.Advertise, httpListener.Addr().(*net.TCPAddr).Port),
				})
			}
		},
	})
}

// maxComponents is how many connections the control plane has at most: one for
// each component, and those of tools.
const maxComponents = 1024
