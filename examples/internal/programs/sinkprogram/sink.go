// Package sinkprogram is arrow-analytics-sink as a program.
package sinkprogram

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
	fileBytes     int
	fileAge       time.Duration
	stall         time.Duration
	count         uint32
	exit          bool
}

func read(e *component.Env) sinkConfig {
	c := sinkConfig{Config: component.ReadConfig(e, component.RoleSink)}
	c.processor = e.Upstream("PROCESSOR_ENDPOINT", component.RoleProcessor, c.Config)
	c.dir = e.String("OUT_DIR", "./sluice-out/arrow-analytics-sink",
		"folder of the run; a folder that holds an unfinished run is continued")
	c.format = e.OneOf("OUT_FORMAT", sink.Parquet, "form of the files", sink.Formats...)
	c.delay = e.Duration("SINK_DELAY", 0, 0, "wait this long for every batch, to see backpressure")
	c.delayFile = e.String("SINK_DELAY_FILE", "", "file with a duration that changes the delay while the sink runs")
	c.rowGroupBytes = e.Int("ROW_GROUP_BYTES", sink.DefaultRowGroupBytes, 1<<16, 1<<30,
		"size at which a Parquet row group ends")
	c.fileBytes = e.Int("FILE_BYTES", 128<<20, 1, math.MaxInt, "size at which a file ends")
	c.fileAge = e.Duration("FILE_AGE", time.Hour, 10*time.Millisecond,
		"age at which a file ends: the longest that a written ledger waits to become durable")
	c.stall = e.Duration("STALL_TIMEOUT", 30*time.Second, 100*time.Millisecond,
		"how long nothing may come before the stream is taken up again")
	c.count = e.Ledger("LEDGER_COUNT", 0,
		"how many ledgers are wanted; with fewer the sink ends with status 3; unset: all that are offered")
	c.exit = e.Bool("EXIT_WHEN_DONE", false, "end when the input does, instead of serving the totals until asked to end")
	return c
}

// Describe reads the sink's variables and returns what they say.
func Describe(e *component.Env) any { return read(e) }

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
	conn, id, err := c.DialUpstream(ctx, "PROCESSOR_ENDPOINT", cfg.processor, component.RoleProcessor, events.FlightName)
	if err != nil {
		return err
	}
	if conn == nil {
		return errEndedEarly
	}
	client := flight.NewClientFromConn(conn, nil)
	offered, from, err := askRange(ctx, c, client)
	if err != nil {
		return err
	}
	asked := offered
	if cfg.count > 0 {
		asked.Last = uint32(min(uint64(asked.First)+uint64(cfg.count)-1, uint64(asked.Last)))
	}
	delay := sink.NewDelay(cfg.delay)
	s, err := sink.New(sink.Config{
		Client: client, Range: asked, Origin: from, Dir: cfg.dir, Format: cfg.format, Throttler: c.Stage, Delay: delay,
		RowGroupBytes: int64(cfg.rowGroupBytes), FileBytes: int64(cfg.fileBytes), FileAge: cfg.fileAge,
		StallTimeout: cfg.stall,
		Logger:       c.Log,
	})
	if err != nil {
		return err
	}
	defer s.Close()
	if cfg.delayFile != "" {
		c.Go(func(ctx context.Context) { delay.Follow(ctx, cfg.delayFile, 100*time.Millisecond, c.Log) })
	}
	err = c.Serve(ctx, component.Service{
		Register:    func(r *grpc.Server) { flight.RegisterFlightServiceServer(r, sink.NewServer(s, c.Security.MayChange)) },
		Inputs:      []string{events.FlightName},
		Outputs:     []string{sink.TotalsFlight},
		Upstreams:   component.Known(id),
		EndsWithRun: cfg.exit,
		Healthy:     s.Healthy,
		Work:        func() any { return s.Status() },
		Figures: func() component.Figures {
			st := s.Status()
			return component.Figures{
				Events: st.Events, Errors: st.Retries, Queued: c.Stage.InFlight().Messages,
				Latency: s.Latency(), EndToEnd: s.EndToEnd(),
			}
		},
		Run: func(ctx context.Context, drain <-chan struct{}) error {
			if err := s.Run(ctx, drain); err != nil {
				return err
			}
			st := s.Status()
			c.Log.Info("the input is on disk", "ledgers", st.Ledgers, "events", st.Events, "files", st.Files, "dir", cfg.dir,
				"complete", st.Done)
			return nil
		},
	})
	if err != nil {
		return err
	}
	return judge(s.Status(), cfg.count)
}

var errEndedEarly = &component.StatusError{
	Status: component.ExitIncomplete,
	Err:    errors.New("asked to end before the processor was there; nothing was written"),
}

// judge says how far a sink that ended without an error came.
func judge(st sink.Status, asked uint32) error {
	have := st.Range.Len()
	switch {
	case !st.Done:
		return &component.StatusError{
			Status: component.ExitIncomplete,
			Err:    fmt.Errorf("asked to end with %d of %d ledgers on disk; the next start continues", st.Ledgers, have),
		}
	case have < uint64(asked):
		return &component.StatusError{
			Status: component.ExitShort,
			Err:    fmt.Errorf("%d ledgers were asked for and %d are there: all of them are on disk", asked, have),
		}
	}
	return nil
}

// askRange asks the processor which ledgers there are, and of what origin,
// until it answers or the sink is asked to end.
func askRange(ctx context.Context, c *component.Component, client flight.Client) (r ledgers.Range, from events.Origin,
	err error,
) {
	for poll := time.NewTicker(200 * time.Millisecond); ; {
		info, err := client.GetFlightInfo(ctx, flights.Descriptor(events.FlightName))
		if err == nil {
			poll.Stop()
			schema, err := flight.DeserializeSchema(info.GetSchema(), memory.DefaultAllocator)
			if err != nil {
				return r, from, fmt.Errorf("the processor's schema: %w", err)
			}
			r, err := flights.ParseBounds(info)
			return r, events.OriginOf(schema), err
		}
		if !sink.Transient(err) && status.Code(err) != codes.NotFound {
			return r, from, fmt.Errorf("asking the processor for its ledgers: %w", err)
		}
		c.Log.Debug("the processor does not answer yet", "error", err)
		select {
		case <-poll.C:
		case <-c.Drain():
			return r, from, errEndedEarly
		case <-ctx.Done():
			return r, from, ctx.Err()
		}
	}
}
