package programs

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
}

func readProcessor(e *component.Env) processorConfig {
	c := processorConfig{Config: component.ReadConfig(e, component.RoleProcessor)}
	c.source = upstream(e, "SOURCE_ENDPOINT", component.RoleSource, c.Flowctl)
	c.workers = e.Int("PROCESSOR_WORKERS", 0, 0, 1024, "ledgers extracted at the same time; 0: one a processor")
	return c
}

// upstream reads an endpoint: without a control plane to ask, its default is
// the documented port on this machine.
func upstream(e *component.Env, name string, role component.Role, flowctl bool) string {
	endpoint := e.Endpoint(name, "", "Flight server to read; unset: found through the control plane, or on its usual port here")
	if endpoint == "" && !flowctl {
		port, _ := role.DefaultPorts()
		endpoint = hostPort("localhost", port)
	}
	return endpoint
}

// DescribeProcessor reads the processor's variables, for its help.
func DescribeProcessor(e *component.Env) { readProcessor(e) }

// Processor is ttp-arrow-processor.
func Processor(ctx context.Context, p component.Process) error {
	env := component.NewEnv(p.Lookup)
	cfg := readProcessor(env)
	if err := usage(env); err != nil {
		return err
	}
	c, err := component.Open(cfg.Config, p)
	if err != nil {
		return err
	}
	defer c.Close()
	conn, id, err := dialUpstream(ctx, c, "SOURCE_ENDPOINT", cfg.source, component.RoleSource, ledgers.FlightName)
	if err != nil || conn == nil {
		return err
	}
	server, err := processor.New(processor.Config{Source: conn, Stage: c.Stage, Workers: cfg.workers, Logger: c.Log})
	if err != nil {
		return err
	}
	return c.Serve(ctx, component.Service{
		Register:  func(r *grpc.Server) { flight.RegisterFlightServiceServer(r, server) },
		Inputs:    []string{ledgers.FlightName},
		Outputs:   []string{events.FlightName},
		Upstreams: known(id),
		Work:      func() any { return server.Counters() },
		Figures: func() component.Figures {
			n := server.Counters()
			return component.Figures{Events: n.Events, Errors: n.Errors, Queued: n.Queued, Latency: n.MeanLatency}
		},
	})
}
