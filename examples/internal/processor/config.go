package processor

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// The default limits of the stage.
const (
	DefaultStageBatches = 64
	DefaultStageBytes   = 64 << 20
)

// maxBatchBytes keeps every message far below gRPC's default limit of 4 MiB.
const maxBatchBytes = 3 << 20

// Config configures a [Server]. A zero field is its default.
type Config struct {
	// Source is the connection to the ledgers' Flight server, usually a
	// connpool.Pool. Required. It stays the caller's to close.
	Source grpc.ClientConnInterface

	// Stage limits what was read and not yet handed on, over all streams.
	// Default: one of 64 batches and 64 MiB of its own. It should wait without a
	// limit of its own (no MaxWait): a full stage is no error.
	Stage *flowcontrol.Throttler

	// StreamShare is the part of the stage that one stream may hold, above 0 and
	// at most 1: a reader that does not read leaves the rest to the others.
	// Default 0.25, and at least one batch.
	StreamShare float64

	// StallTimeout is how long a stream may make no progress: no message taken by
	// its reader, or none sent by the source. It then ends with UNAVAILABLE and
	// gives back what it holds. Default 30 s, negative is for ever.
	StallTimeout time.Duration

	// Workers is how many batches are extracted at the same time, over all
	// streams. Default: the number of processors, at most 8.
	Workers int

	// QueueBatches bounds the queue of each stream. Default 64.
	QueueBatches int

	// BatchRows and BatchBytes are the size of a batch of events at which it is
	// cut. Default 4096 rows and 1 MiB, at most 3 MiB.
	BatchRows, BatchBytes int

	// MaxLedgerBytes is the size of a ledger's XDR above which it is rejected.
	// Default 64 MiB, many times the biggest that the network allows.
	MaxLedgerBytes int64

	// Layout is how GetFlightInfo cuts a range into endpoints.
	Layout flights.Layout

	// Allocator is the memory of the batches. Default: Go's.
	Allocator memory.Allocator

	// Logger gets one line for each stream that fails. Default: nothing.
	Logger *slog.Logger

	// Poisoned, if not nil, takes ledgers whose events cannot be extracted, which
	// end the stream otherwise.
	Poisoned extract.Poisoned
}

func (c Config) withDefaults() Config {
	c.Workers = cmp.Or(c.Workers, min(runtime.GOMAXPROCS(0), 8))
	c.StreamShare = cmp.Or(c.StreamShare, 0.25)
	c.StallTimeout = cmp.Or(c.StallTimeout, 30*time.Second)
	c.QueueBatches = cmp.Or(c.QueueBatches, 64)
	c.BatchRows = cmp.Or(c.BatchRows, 4096)
	c.BatchBytes = cmp.Or(c.BatchBytes, 1<<20)
	c.MaxLedgerBytes = cmp.Or(c.MaxLedgerBytes, 64<<20)
	if c.Allocator == nil {
		c.Allocator = memory.DefaultAllocator
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.Source == nil {
		errs = append(errs, errors.New("processor: Source is missing"))
	}
	if !(c.StreamShare > 0 && c.StreamShare <= 1) {
		errs = append(errs, fmt.Errorf("processor: StreamShare is %v, want above 0 and at most 1", c.StreamShare))
	}
	positive := func(name string, v, most int64) {
		if v < 1 || v > most {
			errs = append(errs, fmt.Errorf("processor: %s is %d, want 1 to %d", name, v, most))
		}
	}
	positive("Workers", int64(c.Workers), 1024)
	positive("QueueBatches", int64(c.QueueBatches), 1<<16)
	positive("BatchRows", int64(c.BatchRows), 1<<20)
	positive("BatchBytes", int64(c.BatchBytes), maxBatchBytes)
	positive("MaxLedgerBytes", c.MaxLedgerBytes, 1<<30)
	return errors.Join(errs...)
}
