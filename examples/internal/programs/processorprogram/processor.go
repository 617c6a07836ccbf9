// Package processorprogram is ttp-arrow-processor as a program.
package processorprogram

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/processor"
)

type processorConfig struct {
	component.Config
	source  string
	workers int

	deadLetters string
}

func read(e *component.Env) processorConfig {
	c := processorConfig{Config: component.ReadConfig(e, component.RoleProcessor)}
	c.source = e.Upstream("SOURCE_ENDPOINT", component.RoleSource, c.Config)
	c.workers = e.Int("PROCESSOR_WORKERS", 0, 0, 1024, "ledgers extracted at the same time; 0: one a processor")
	c.deadLetters = component.DeadLetters(e)
	return c
}

// Describe reads the processor's variables and returns what they say.
func Describe(e *component.Env) any { return read(e) }

// Run is ttp-arrow-processor.
func Run(ctx context.Context, p component.Process) error {
	env := component.NewEnv(p.Lookup)
	cfg := read(env)
	if err := env.Usage(); err != nil {
		return err
	}
	c, err := component.Open(cfg.Config, p)
	if err != nil {
		return err
	}
	defer c.Close()
	conn, id, err := c.DialUpstream(ctx, "SOURCE_ENDPOINT", cfg.source, component.RoleSource, ledgers.FlightName)
	if err != nil || conn == nil {
		return err
	}
	setup := processor.Config{Source: conn, Stage: c.Stage, Workers: cfg.workers, Logger: c.Log}
	folder, err := c.DeadLetters(cfg.deadLetters)
	if err != nil {
		return err
	}
	if folder != nil {
		setup.Poisoned = folder
	}
	server, err := processor.New(setup)
	if err != nil {
		return err
	}
	return c.Serve(ctx, component.Service{
		Register:  func(r *grpc.Server) { flight.RegisterFlightServiceServer(r, server) },
		Inputs:    []string{ledgers.FlightName},
		Outputs:   []string{events.FlightName},
		Upstreams: component.Known(id),
		Work:      func() any { return server.Counters() },
		Figures: func() component.Figures {
			n := server.Counters()
			return component.Figures{Events: n.Events, Errors: n.Errors, Queued: n.Queued, Latency: n.MeanLatency}
		},
	})
}
