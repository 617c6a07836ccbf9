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
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// Config is what a sink needs. A zero field that is not marked as required is
// its default.
type Config struct {
	// Client reads the processor. Required; it stays the caller's to close.
	Client flight.Client
	// Range is what to read. Required.
	Range ledgers.Range
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
	// FlushInterval is the longest that a written ledger waits to become
	// durable; 0 is 5 s.
	FlushInterval time.Duration
	// MaxAttempts is how often in a row a broken stream is taken up again
	// without any progress in between; 0 is 8, negative is never again.
	MaxAttempts int
	// Logger receives transitions; nil discards them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Format = cmp.Or(c.Format, Parquet)
	c.RowGroupBytes = cmp.Or(c.RowGroupBytes, 16<<20)
	c.FlushInterval = cmp.Or(c.FlushInterval, 5*time.Second)
	c.MaxAttempts = cmp.Or(c.MaxAttempts, 8)
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

	status atomic.Pointer[Status]
	totals atomic.Pointer[[]Total]

	retries atomic.Int64
	latency atomic.Int64 // of the oldest batch of the last file: from read to durable
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
	Seconds      float64          `json:"seconds"` // from the first request to the last durable event of this run
	Done         bool             `json:"done"`    // the whole range is durable
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
	f, err := openFolder(cfg.Dir, cfg.Format, cfg.Range)
	if err != nil {
		return nil, err
	}
	s := &Sink{cfg: cfg, folder: f, wake: make(chan struct{}, 1)}
	s.status.Store(statusOf(f.cp))
	s.totals.Store(&f.cp.Totals)
	return s, nil
}

func statusOf(cp Checkpoint) *Status {
	return &Status{
		Range: cp.Range, Next: cp.Next, Written: cp.Next, Ledgers: cp.Ledgers, Transactions: cp.Transactions, Events: cp.Events,
		ByType: cp.ByType, Files: cp.Files, Bytes: cp.Bytes, Done: cp.Done(),
	}
}

// Status returns how far the sink is.
func (s *Sink) Status() Status {
	st := *s.status.Load()
	st.Retries = s.retries.Load()
	if seconds := s.seconds.Load(); seconds != nil {
		st.Seconds = *seconds
	}
	return st
}

// Latency returns how long the oldest batch of the last file took from being
// read to being durable.
func (s *Sink) Latency() time.Duration { return time.Duration(s.latency.Load()) }

// EndToEnd returns how long the oldest batch of the last file took from being
// read at the source to being durable here, or 0 when its source did not say
// when that was, or when nothing became durable for a minute. It compares the
// clocks of two machines, so it is as good as they agree, and never less than
// what passed here alone.
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

// measure takes the time of a batch that is durable now.
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
// written. A broken stream is taken up again from the last durable ledger.
func (s *Sink) Run(ctx context.Context, drain <-chan struct{}) error {
	s.began = time.Now()
	failures := 0
	for {
		before := s.folder.cp.Next
		if s.folder.cp.Done() {
			return nil
		}
		err := s.pass(ctx, drain)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !Transient(err):
			return fmt.Errorf("sink: ledger %d: %w", s.folder.cp.Next, err)
		case s.folder.cp.Next > before:
			failures = 0
		}
		failures++
		if failures > s.cfg.MaxAttempts {
			return fmt.Errorf("sink: ledger %d: gave up after %d attempts: %w", s.folder.cp.Next, failures, err)
		}
		wait := backoff(failures)
		s.cfg.Logger.Warn("the stream broke and is taken up again", "ledger", s.folder.cp.Next, "attempt", failures, "wait", wait, "error", err)
		s.retries.Add(1)
		select {
		case <-time.After(wait):
		case <-drain:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// backoff doubles from 100 ms to 5 s, with a jitter of a half.
func backoff(failures int) time.Duration {
	d := min(100*time.Millisecond<<min(failures-1, 10), 5*time.Second)
	return d/2 + rand.N(d/2)
}

// errBroken is a stream that ended too early.
var errBroken = errors.New("the stream ended before the range did")

// Transient says whether the same request may do better later. A ledger that
// cannot be decoded or does not exist stays so.
func Transient(err error) bool {
	if errors.Is(err, errBroken) {
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
