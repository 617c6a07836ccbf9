// Package sourceprogram is stellar-arrow-source as a program. It alone links the
// clients of data lakes and RPC servers.
package sourceprogram

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/deadletter"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
)

type sourceConfig struct {
	component.Config
	ledgers ledgerConfig
}

func read(e *component.Env) sourceConfig {
	c := component.ReadConfig(e, component.RoleSource)
	return sourceConfig{c, readLedgerConfig(e, c.Security)}
}

// Describe reads the source's variables and returns what they say.
func Describe(e *component.Env) any { return read(e) }

// Run is stellar-arrow-source.
func Run(ctx context.Context, p component.Process) error {
	env := component.NewEnv(p.Lookup)
	cfg := read(env)
	if err := env.Usage(); err != nil {
		return err
	}
	src, err := cfg.ledgers.open(ctx)
	if err != nil {
		return err
	}
	c, err := component.Open(cfg.Config, p)
	if err != nil {
		return err
	}
	defer c.Close()
	if note := src.Info().Note; note != "" {
		c.Log.Info("ledgers", "source", note)
	}
	offered := src
	folder, err := c.DeadLetters(cfg.ledgers.deadLetters)
	if err != nil {
		return err
	}
	if folder != nil {
		offered = deadletter.Source{Source: src, Folder: folder}
	}
	server, err := source.New(offered, source.Config{Logger: c.Log})
	if err != nil {
		return err
	}
	watchLag(c, src, server)
	return c.Serve(ctx, component.Service{
		Register: func(r *grpc.Server) { flight.RegisterFlightServiceServer(r, server) },
		Outputs:  []string{ledgers.FlightName},
		Work:     func() any { return server.Counters() },
		Figures: func() component.Figures {
			n := server.Counters()
			return component.Figures{Events: n.Ledgers, Errors: n.Errors}
		},
	})
}
