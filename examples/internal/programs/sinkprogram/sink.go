// Package sinkprogram is arrow-analytics-sink as a program.
package sinkprogram

import (
	"context"
	"fmt"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

type sinkConfig struct {
	component.Config
	processor     string
	dir, format   string
	delay         time.Duration
	delayFile     string
	rowGroupBytes int
	flush         time.Duration
	exit          bool
}

func read(e *component.Env) sinkConfig {
	c := sinkConfig{Config: component.ReadConfig(e, component.RoleSink)}
	c.processor = e.Upstream("PROCESSOR_ENDPOINT", component.RoleProcessor, c.Flowctl)
	c.dir = e.String("OUT_DIR", "./sluice-out/arrow-analytics-sink", "folder of the run; a folder that holds an unfinished run is continued")
	c.format = e.OneOf("OUT_FORMAT", sink.Parquet, "of the files", sink.Formats...)
	c.delay = e.Duration("SINK_DELAY", 0, 0, "wait this long for every batch, to see backpressure")
	c.delayFile = e.String("SINK_DELAY_FILE", "", "file with a duration that changes the delay while the sink runs")
	c.rowGroupBytes = e.Int("ROW_GROUP_BYTES", 16<<20, 1<<16, 1<<30, "size at which a Parquet row group ends")
	c.flush = e.Duration("FLUSH_INTERVAL", 5*time.Second, 10*time.Millisecond, "longest that a written ledger waits to become durable")
	c.exit = e.Bool("EXIT_WHEN_DONE", false, "end when the input does, instead of serving the totals until asked to end")
	return c
}

// Describe reads the sink's variables, for its help.
func Describe(e *component.Env) { read(e) }

// Run is arrow-analytics-sink.
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
	endpoint, id, err := c.Upstream(ctx, "PROCESSOR_ENDPOINT", cfg.processor, component.RoleProcessor, events.FlightName)
	if err != nil || endpoint == "" {
		return err
	}
	conn, err := c.Dial(endpoint)
	if err != nil {
		return err
	}
	client := flight.NewClientFromConn(conn, nil)
	asked, err := askRange(ctx, c, client)
	if err != nil || asked.Len() == 0 {
		return err
	}
	delay := sink.NewDelay(cfg.delay)
	s, err := sink.New(sink.Config{
		Client: client, Range: asked, Dir: cfg.dir, Format: cfg.format, Throttler: c.Stage, Delay: delay,
		RowGroupBytes: int64(cfg.rowGroupBytes), FlushInterval: cfg.flush, Logger: c.Log,
	})
	if err != nil {
		return err
	}
	if cfg.delayFile != "" {
		c.Go(func(ctx context.Context) { delay.Follow(ctx, cfg.delayFile, 100*time.Millisecond, c.Log) })
	}
	return c.Serve(ctx, component.Service{
		Register:    func(r *grpc.Server) { flight.RegisterFlightServiceServer(r, sink.NewServer(s)) },
		Inputs:      []string{events.FlightName},
		Outputs:     []string{sink.TotalsFlight},
		Upstreams:   component.Known(id),
		EndsWithRun: cfg.exit,
		Work:        func() any { return s.Status() },
		Figures: func() component.Figures {
			st := s.Status()
			return component.Figures{Events: st.Events, Errors: st.Retries, Queued: c.Stage.InFlight().Messages, Latency: s.Latency(), EndToEnd: s.EndToEnd()}
		},
		Run: func(ctx context.Context, drain <-chan struct{}) error {
			if err := s.Run(ctx, drain); err != nil {
				return err
			}
			st := s.Status()
			c.Log.Info("the input is on disk", "ledgers", st.Ledgers, "events", st.Events, "files", st.Files, "dir", cfg.dir, "complete", st.Done)
			return nil
		},
	})
}

// askRange asks the processor which ledgers there are, until it answers or the
// sink is asked to end.
func askRange(ctx context.Context, c *component.Component, client flight.Client) (ledgers.Range, error) {
	for poll := time.NewTicker(200 * time.Millisecond); ; {
		info, err := client.GetFlightInfo(ctx, flights.Descriptor(events.FlightName))
		if err == nil {
			poll.Stop()
			return flights.ParseBounds(info)
		}
		if !sink.Transient(err) {
			return ledgers.Range{}, fmt.Errorf("asking the processor for its ledgers: %w", err)
		}
		c.Log.Debug("the processor does not answer yet", "error", err)
		select {
		case <-poll.C:
		case <-c.Drain():
			return ledgers.Range{}, nil
		case <-ctx.Done():
			return ledgers.Range{}, ctx.Err()
		}
	}
}
