package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink"
	"github.com/withobsrvr/sluice/examples/internal/verify"
)

// Config is what a pipeline is run with.
type Config struct {
	Options Options
	// Env is what the components' environment starts from.
	Env []string
	// Programs are the components, and Descriptions what each reads from its
	// environment.
	Programs     map[component.Role]component.Run
	Descriptions map[component.Role]func(*component.Env) any
	// Open returns the ledgers of the source, for the comparison, from the
	// environment that the source gets.
	Open func(ctx context.Context, lookup func(string) (string, bool)) (ledgers.Source, error)
	// Interrupts asks for the end: the first value drains, the second stops at
	// once.
	Interrupts <-chan os.Signal
	// Out shows progress and the summary; Logs receives log lines.
	Out  *os.File
	Logs io.Writer
}

// Waiting times. None decides about data: they only bound how long a run hangs
// on a component that does not come up or an operator's view that lags.
const (
	healthTimeout   = 2 * time.Minute
	recoveryTimeout = 2 * time.Minute
	liveInterval    = 250 * time.Millisecond
	plainInterval   = 2 * time.Second
)

// ErrInterrupted means that the run was stopped at once, by a second interrupt.
var ErrInterrupted = errors.New("stopped at once: what was not durable is not in the files; -resume continues")

// pipeline is one run.
type pipeline struct {
	cfg     Config
	opts    Options
	console *console
	spawner *spawner
	units   map[component.Role]unit
	follow  *follower
	meter   meter

	addresses map[component.Role]component.Addresses
	revivals  map[component.Role]revival

	security component.Security

	dir    string
	before sink.Checkpoint // of the folder when the run began
	src    ledgers.Source
	bounds ledgers.Range
	// counted says that the number of ledgers ends the run, and not END_LEDGER.
	counted bool
	short   bool // there are fewer ledgers than were asked for
	env     []string
	last    picture
	up      time.Time // of the sink, which then asks for events
	drawn   time.Time // of the last plain line
	idle    bool      // only serving
	memory  []string  // the most that each process had resident
}

// Run runs the pipeline until its input is done and durable, or until it is
// interrupted. No child is left when it returns.
func Run(ctx context.Context, cfg Config) error {
	p := &pipeline{
		cfg: cfg, opts: cfg.Options, console: newConsole(cfg.Out, cfg.Logs), spawner: newSpawner(),
		units: map[component.Role]unit{}, follow: newFollower(),
		addresses: map[component.Role]component.Addresses{}, revivals: map[component.Role]revival{},
		last: picture{decision: component.Decision{Fraction: 1}},
	}
	defer p.spawner.close()
	defer p.killAll()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	drain := make(chan struct{})
	go p.watchInterrupts(ctx, drain, cancel)

	err := p.run(ctx, drain)
	p.console.draw("")
	if ctx.Err() != nil {
		return ErrInterrupted
	}
	return err
}

func (p *pipeline) watchInterrupts(ctx context.Context, drain chan<- struct{}, stop func()) {
	for n := 1; ; n++ {
		select {
		case <-p.cfg.Interrupts:
		case <-ctx.Done():
			return
		}
		if n == 1 {
			p.console.say("interrupted: draining; once more stops at once")
			close(drain)
			continue
		}
		stop()
		return
	}
}

func (p *pipeline) run(ctx context.Context, drain <-chan struct{}) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	switch err := p.start(ctx, drain); {
	case errors.Is(err, errDraining): // what is up is drained, and what the folder holds is summed up
	case err != nil:
		return err
	default:
		if err := p.work(ctx, drain); err != nil {
			return err
		}
	}
	if err := p.stop(ctx); err != nil {
		return err
	}
	return p.finish(ctx)
}

// prepare finds the run's folder and input, and looks at the ports.
func (p *pipeline) prepare(ctx context.Context) error {
	host, _ := lookupIn(p.cfg.Env)("LISTEN_HOST")
	if host == "" {
		host = "localhost"
	}
	if err := p.opts.Ports.Check(host); err != nil {
		return err
	}
	if p.opts.Resume != "" {
		var err error
		if p.dir, p.before, err = findRun(p.opts.Out, p.opts.Resume); err != nil {
			return err
		}
		if p.before.Format != "" {
			p.opts.Format = p.before.Format
		}
		if !p.opts.LedgersSet && p.before.Range.Len() > 0 {
			p.opts.Ledgers = uint32(p.before.Range.Len())
		}
		if have := p.before.Range.Len(); uint64(p.opts.Ledgers) < have {
			return &component.UsageError{
				Err: fmt.Errorf(
					"-ledgers %d: %s holds a run of %d ledgers, which cannot be made shorter",
					p.opts.Ledgers,
					p.dir,
					have,
				),
			}
		}
	}
	end, _ := lookupIn(p.cfg.Env)("END_LEDGER")
	p.counted = p.opts.LedgersSet || p.opts.Resume != "" || end == "" || p.opts.Source == "sample"
	p.env = p.environment()
	if err := p.checkEnvironment(); err != nil {
		return err
	}
	p.security = component.ReadSecurity(component.NewEnv(lookupIn(p.env)), host)
	p.follow.client = p.security.HTTPClient(askTimeout)
	src, err := p.cfg.Open(ctx, lookupIn(p.env))
	if err != nil {
		return err
	}
	p.src = src
	bounds, err := src.Bounds(ctx)
	if err != nil {
		return err
	}
	if !p.counted {
		p.opts.Ledgers = uint32(bounds.Len())
	}
	if bounds.Len() == 0 {
		return fmt.Errorf("the source offers no ledger: its range %v is empty", bounds)
	}
	if p.short = bounds.Len() < uint64(p.opts.Ledgers); p.short {
		p.console.say("%d ledgers were asked for, %d are there", p.opts.Ledgers, bounds.Len())
	}
	p.bounds, p.meter.total = bounds, int64(bounds.Len())
	// A source that grows offers more by the time that the component asks.
	p.env = append(p.env, fmt.Sprintf("START_LEDGER=%d", bounds.First), fmt.Sprintf("END_LEDGER=%d", bounds.Last))
	if p.dir == "" { // last, so that a run that cannot start leaves nothing behind
		if p.dir, err = newRun(p.opts.Out, time.Now()); err != nil {
			return err
		}
	}
	if note := src.Info().Note; note != "" {
		p.console.say("source: %s", note)
	}
	p.console.say("ledgers %d to %d into %s", bounds.First, bounds.Last, p.dir)
	if p.before.Ledgers > 0 {
		p.console.say("continuing at ledger %d: %d ledgers are there", p.before.Next, p.before.Ledgers)
	}
	return nil
}

// checkEnvironment refuses what the components would refuse, before any of them
// is started, and each variable once though several read it.
func (p *pipeline) checkEnvironment() error {
	var refused []error
	said := map[string]bool{}
	for _, role := range component.Roles {
		env := component.NewEnv(lookupIn(p.environmentOf(role)))
		p.cfg.Descriptions[role](env)
		for _, err := range env.Rejected() {
			if !said[err.Error()] {
				said[err.Error()] = true
				refused = append(refused, err)
			}
		}
	}
	if len(refused) > 0 {
		return &component.UsageError{Err: errors.Join(refused...)}
	}
	return nil
}

// environment is what every component gets.
func (p *pipeline) environment() []string {
	env := append(slices.Clone(p.cfg.Env),
		"ENABLE_FLOWCTL=true",
		"LOG_LEVEL="+p.opts.LogLevel,
		"LOG_FORMAT="+p.opts.LogFormat,
		"LEDGER_SOURCE="+p.opts.Source,
		"LEDGER_COUNT=",
	)
	if p.counted {
		env = append(env, "LEDGER_COUNT="+strconv.FormatUint(uint64(p.opts.Ledgers), 10))
	}
	if p.before.Range.Len() > 0 && p.opts.Source != "sample" {
		env = append(env, "START_LEDGER="+strconv.FormatUint(uint64(p.before.Range.First), 10))
	}
	return env
}

// environmentOf is what one component gets.
func (p *pipeline) environmentOf(role component.Role) []string {
	grpcPort, httpPort := p.opts.Ports.Of(role)
	env := append(slices.Clone(p.env),
		"FLOWCTL_COMPONENT_ID="+string(role),
		"FLIGHT_PORT="+strconv.Itoa(grpcPort),
		"HEALTH_PORT="+strconv.Itoa(httpPort),
	)
	if role == component.RoleSink {
		env = append(env, "OUT_DIR="+p.dir, "OUT_FORMAT="+p.opts.Format, "SINK_DELAY="+p.opts.SinkDelay.String())
		if path, ok := lookupIn(p.env)("SINK_DELAY_FILE"); !ok || path == "" {
			env = append(env, "SINK_DELAY_FILE="+filepath.Join(p.dir, "sink-delay"))
		}
	}
	return env
}

// work follows the pipeline until its input is durable and the pressure is
// gone, or, with -serve, until the first interrupt.
func (p *pipeline) work(ctx context.Context, drain <-chan struct{}) error {
	interval := plainInterval
	if p.console.live {
		interval = liveInterval
	}
	tick := time.NewTicker(liveInterval)
	defer tick.Stop()
	var doneAt time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-drain:
			return nil
		case <-tick.C:
		}
		if err := p.died(); err != nil {
			return err
		}
		p.last = p.follow.look(ctx, p.last)
		p.meter.add(p.last)
		if !p.idle || p.console.live { // nothing new in a log
			p.show(interval)
		}
		if !p.last.sink.Done {
			continue
		}
		if doneAt.IsZero() {
			doneAt = time.Now()
		}
		recovered := p.last.decision.Fraction >= 1 || time.Since(doneAt) > recoveryTimeout
		if recovered && !p.opts.Serve {
			return nil
		}
		if recovered && !p.idle {
			p.idle = true
			p.console.say("the input is on disk; serving until Ctrl-C")
		}
	}
}

func (p *pipeline) show(interval time.Duration) {
	if p.console.live {
		p.console.draw(p.meter.render(p.last, p.console.width()))
		return
	}
	if time.Since(p.drawn) >= interval {
		p.drawn = time.Now()
		p.console.say("%s", p.meter.line(p.last))
	}
}

// finish compares and sums up. It reads the folder, not what anybody said.
func (p *pipeline) finish(ctx context.Context) error {
	cp, err := sink.ReadCheckpoint(p.dir)
	if errors.Is(err, fs.ErrNotExist) { // interrupted before the sink was up
		cp, err = sink.Checkpoint{Range: p.bounds, Next: p.bounds.First}, nil
	}
	if err != nil {
		return err
	}
	var found *verify.Result
	if p.opts.Verify && cp.Next > cp.Range.First {
		p.console.draw(" reading the files back\n")
		done := ledgers.Range{First: cp.Range.First, Last: cp.Next - 1}
		result, err := verify.Compare(ctx, p.dir, p.src, done, p.verifying(done))
		if err != nil {
			return err
		}
		found = &result
	} else if p.opts.Verify {
		found = &verify.Result{} // nothing was written, nothing is missing
	}
	p.console.draw("")
	summary := summarize(cp, p.last, p.before, p.seconds(), found)
	if !cp.Done() {
		p.console.say("ended with %d of %d ledgers on disk; -resume continues", cp.Ledgers, cp.Range.Len())
	}
	if p.opts.Summary == "json" {
		err = summary.writeJSON(p.cfg.Out)
	} else {
		if peak := ownPeakMemory(); peak > 0 {
			p.memory = append(p.memory, fmt.Sprintf("this process %d", peak>>20))
		}
		err = summary.writeText(p.cfg.Out, p.dir, p.memory)
	}
	switch {
	case err != nil:
		return err
	case found != nil && !found.Good():
		return fmt.Errorf(
			"the files are not what the SDK finds: %d events lost, %d too many, %d different: %q",
			*summary.Lost,
			*summary.Duplicates,
			*summary.Different,
			found.Examples,
		)
	case !cp.Done():
		return &component.StatusError{
			Status: component.ExitIncomplete,
			Err:    fmt.Errorf("ended before the end, with %d of %d ledgers on disk", cp.Ledgers, cp.Range.Len()),
		}
	case p.short:
		return &component.StatusError{
			Status: component.ExitShort,
			Err: fmt.Errorf(
				"%d ledgers were asked for and %d are there: all of them are on disk",
				p.opts.Ledgers,
				cp.Range.Len(),
			),
		}
	}
	return nil
}

// seconds is from the first request for events to the last durable one. What a
// drain still makes durable, the sink is no longer there to tell.
func (p *pipeline) seconds() float64 {
	seconds := p.last.sink.Seconds
	if durable, err := sink.LastDurable(p.dir); err == nil && !p.last.sink.Done && !p.up.IsZero() {
		seconds = max(seconds, durable.Sub(p.up).Seconds())
	}
	return seconds
}

// verifying shows the comparison's progress.
func (p *pipeline) verifying(r ledgers.Range) func(uint32) {
	drawn, interval := time.Now(), plainInterval
	if p.console.live {
		interval = liveInterval
	}
	return func(ledger uint32) {
		if time.Since(drawn) < interval {
			return
		}
		drawn = time.Now()
		text := fmt.Sprintf("reading the files back: %d of %d ledgers", ledger-r.First+1, r.Len())
		if p.console.live {
			p.console.draw(" " + text + "\n")
		} else {
			p.console.say("%s", text)
		}
	}
}
