package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// Config is what a sink needs. A zero field that is not marked as required is
// its default.
type Config struct {
	// Client reads the processor. Required; it stays the caller's to close.
	Client flight.Client
	// Range is what to read: what the processor offers, or the part of it that is
	// asked for. Required. A folder that is continued may hold its beginning.
	Range ledgers.Range
	// Origin is which ledgers these are. A folder holds those of one origin.
	Origin events.Origin
	// Dir is the folder of the run. Required; it is created.
	Dir string
	// Format is one of Formats; the default is Parquet.
	Format string
	// Throttler bounds what is read and not yet durable. Required.
	Throttler *flowcontrol.Throttler
	// Delay slows the sink down on purpose; nil is none.
	Delay *Delay
	// RowGroupBytes cuts Parquet row groups; 0 is 16 MiB.
	RowGroupBytes int64
	// FileBytes and FileAge end a file: the first ledger that makes it this large,
	// or this long after its first ledger came. 0 is 128 MiB and an hour. A Parquet
	// file grows by whole row groups. A crash repeats at most the one file that is
	// not finished.
	FileBytes int64
	FileAge   time.Duration
	// MaxAttempts is how often in a row a broken stream is taken up again
	// without any progress in between; 0 is for ever, negative is never again.
	MaxAttempts int
	// StallTimeout is how long the sink waits for a batch before it takes the
	// stream for broken; 0 is 30 s, negative is for ever.
	StallTimeout time.Duration
	// Logger receives transitions; nil discards them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Format = cmp.Or(c.Format, Parquet)
	c.RowGroupBytes = cmp.Or(c.RowGroupBytes, 16<<20)
	c.FileBytes = cmp.Or(c.FileBytes, 128<<20)
	c.FileAge = cmp.Or(c.FileAge, time.Hour)
	c.StallTimeout = cmp.Or(c.StallTimeout, 30*time.Second)
	if c.Delay == nil {
		c.Delay = NewDelay(0)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Client == nil {
		errs = append(errs, errors.New("Client is required"))
	}
	if c.Throttler == nil {
		errs = append(errs, errors.New("Throttler is required"))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("Dir is required"))
	}
	if c.Range.Len() == 0 {
		errs = append(errs, fmt.Errorf("Range %v is empty", c.Range))
	}
	if !slices.Contains(Formats, c.Format) {
		errs = append(errs, fmt.Errorf("Format %q: want one of %v", c.Format, Formats))
	}
	return errors.Join(errs...)
}

// Sink reads events and writes files. One goroutine calls Run, once; the other
// methods are safe for concurrent use.
type Sink struct {
	cfg    Config
	folder *folder
	last   uint32        // of the run
	origin events.Origin // of the folder

	status  atomic.Pointer[Status]
	trouble atomic.Pointer[trouble] // why nothing comes, or nil
	totals  atomic.Pointer[[]Total]

	retries atomic.Int64
	latency atomic.Int64 // of the first batch of the last ledger: from read to written
	whole   atomic.Pointer[endToEnd]
	began   time.Time
	seconds atomic.Pointer[float64] // until the last commit

	// What the reader waits for room for, or nil. The writer, which alone makes
	// room, looks at it when it has nothing else to do.
	wanted atomic.Pointer[flowcontrol.Cost]
	wake   chan struct{}
}

// Status is how far a sink is.
type Status struct {
	Range        ledgers.Range    `json:"range"`
	Next         uint32           `json:"next"` // the first ledger that is not durable
	Written      uint32           `json:"written"`
	Ledgers      int64            `json:"ledgers"` // written, with those that are not durable yet
	Transactions int64            `json:"transactions"`
	Events       int64            `json:"events"`
	ByType       map[string]int64 `json:"events_by_type"`
	Files        int              `json:"files"`
	Bytes        int64            `json:"bytes"`
	Retries      int64            `json:"retries"`
	Trouble      string           `json:"trouble,omitempty"` // why nothing comes, since when; it is tried again
	Seconds      float64          `json:"seconds"`           // from the first request to the last durable event of this run
	Done         bool             `json:"done"`              // the whole range is durable
}

// An item is one batch and the permit under which it was read.
type item struct {
	rec    arrow.RecordBatch
	info   events.BatchInfo
	cost   flowcontrol.Cost
	permit flowcontrol.Permit
	read   time.Time
}

func (i item) release(o flowcontrol.Outcome) {
	i.rec.Release()
	i.permit.Release(o)
}

// New locks the folder of the run and takes up what it holds. A folder that
// another sink has is an error that matches [ErrLocked]. Close the sink.
func New(cfg Config) (*Sink, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	f, err := openFolder(cfg.Dir, cfg.Format, cfg.Range, cfg.Origin)
	if err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, folder: f, last: f.cp.Range.Last, origin: f.cp.Origin, wake: make(chan struct{}, 1)}
	s.status.Store(statusOf(f.cp))
	s.totals.Store(&f.cp.Totals)
	return s, nil
}

func statusOf(cp Checkpoint) *Status {
	return &Status{
		Range: cp.Range, Next: cp.Next, Written: cp.Next, Ledgers: cp.Ledgers, Transactions: cp.Transactions, Events: cp.Events,
		ByType: cp.ByType, Files: len(cp.Files), Bytes: cp.Bytes, Done: cp.Done(),
	}
}

// Status returns how far the sink is.
func (s *Sink) Status() Status {
	st := *s.status.Load()
	st.Retries = s.retries.Load()
	if err := s.Healthy(); err != nil {
		st.Trouble = err.Error()
	}
	if seconds := s.seconds.Load(); seconds != nil {
		st.Seconds = *seconds
	}
	return st
}

// trouble is a stream that broke and was not made good yet.
type trouble struct {
	since    time.Time
	attempts int
	err      error
}

// Healthy returns why nothing comes from the processor, or nil. A sink with
// trouble goes on trying.
func (s *Sink) Healthy() error {
	t := s.trouble.Load()
	if t == nil {
		return nil
	}
	return fmt.Errorf("nothing came since %s, %d attempts: %w", t.since.Format(time.RFC3339), t.attempts, t.err)
}

// Latency returns how long the last ledger took from its first batch being read
// to being written into a file.
func (s *Sink) Latency() time.Duration { return time.Duration(s.latency.Load()) }

// EndToEnd returns how long the last ledger took from being read at the source
// to being written into a file here, or 0 when its source did not say when that
// was, or when nothing was written for a minute. It compares the clocks of two
// machines, so it is as good as they agree, and never less than what passed
// here alone.
func (s *Sink) EndToEnd() time.Duration {
	if m := s.whole.Load(); m != nil && time.Since(m.at) < time.Minute {
		return m.took
	}
	return 0
}

type endToEnd struct {
	took time.Duration
	at   time.Time
}

// measure takes the time of the first batch of a ledger that is written now.
func (s *Sink) measure(oldest item) {
	now := time.Now()
	here := now.Sub(oldest.read)
	s.latency.Store(int64(here))
	if oldest.info.Entered == 0 {
		s.whole.Store(nil)
		return
	}
	s.whole.Store(&endToEnd{max(here, now.Sub(time.Unix(0, oldest.info.Entered))), now})
}

// Totals returns the running totals by type and asset.
func (s *Sink) Totals() []Total { return *s.totals.Load() }

// Delay returns the artificial delay, which can be changed at any time.
func (s *Sink) Delay() *Delay { return s.cfg.Delay }

// Close gives the folder up, for other sinks to take. Call it after Run; it may
// be called more than once.
func (s *Sink) Close() error { return s.folder.close() }

// Run reads the range and returns nil when all of it is durable, or when drain
// was closed and everything that was read in whole ledgers is durable. When
// ctx ends it stops at once: what is not durable is given up, never half
// written. A broken stream is taken up again behind the last whole ledger.
func (s *Sink) Run(ctx context.Context, drain <-chan struct{}) error {
	s.began = time.Now()
	w, err := s.newWriter()
	if err != nil {
		return err
	}
	err = s.follow(ctx, drain, w)
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), w.abandon())
	}
	// Whatever ended it: what came whole becomes durable.
	return errors.Join(err, w.commit(), w.abandon())
}

// follow makes one pass after another until the range is written.
func (s *Sink) follow(ctx context.Context, drain <-chan struct{}, w *writer) error {
	for failures := 0; ; {
		before := w.cp.Next
		if w.cp.Done() {
			return nil
		}
		err := s.pass(ctx, drain, w)
		at := w.cp.Next
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !s.worthAnother(ctx, err, at):
			return fmt.Errorf("sink: ledger %d: %w", at, err)
		case at > before:
			failures = 0
		}
		if err := w.rewind(); err != nil {
			return err
		}
		failures++
		if s.cfg.MaxAttempts != 0 && failures > s.cfg.MaxAttempts {
			return fmt.Errorf("sink: ledger %d: gave up after %d attempts: %w", at, failures, err)
		}
		wait := backoff(failures)
		s.cfg.Logger.Warn(
			"the stream broke and is taken up again",
			"ledger",
			at,
			"attempt",
			failures,
			"wait",
			wait,
			"error",
			err,
		)
		s.retries.Add(1)
		since := time.Now()
		if t := s.trouble.Load(); t != nil && failures > 1 {
			since = t.since
		}
		s.trouble.Store(&trouble{since, failures, err})
		select {
		case <-time.After(wait):
		case <-drain:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if w.due() {
			if err := w.commit(); err != nil {
				return err
			}
		}
	}
}

// worthAnother says whether another attempt may get the ledger. One that the
// source does not have yet may come; one that it has no longer will not.
func (s *Sink) worthAnother(ctx context.Context, err error, ledger uint32) bool {
	if status.Code(err) != codes.NotFound {
		return Transient(err)
	}
	info, err := s.cfg.Client.GetFlightInfo(ctx, flights.Descriptor(events.FlightName))
	if err != nil {
		return Transient(err)
	}
	offered, err := flights.ParseBounds(info)
	return err == nil && ledger >= offered.First
}

// backoff doubles from 100 ms to 5 s, with a jitter of a half.
func backoff(failures int) time.Duration {
	d := min(100*time.Millisecond<<min(failures-1, 10), 5*time.Second)
	return d/2 + rand.N(d/2)
}

var (
	// errBroken is a stream that ended too early.
	errBroken = errors.New("the stream ended before the range did")
	// errStalled is a stream of which nothing came.
	errStalled = errors.New("nothing came from the processor")
)

// Transient says whether the same request may do better later. A ledger that
// cannot be decoded or does not exist stays so.
func Transient(err error) bool {
	if errors.Is(err, errBroken) || errors.Is(err, errStalled) {
		return true
	}
	var withStatus interface{ GRPCStatus() *status.Status }
	if !errors.As(err, &withStatus) {
		return false
	}
	switch withStatus.GRPCStatus().Code() {
	case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Canceled:
		return true
	}
	return false
}
