package source

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/withobsrvr/sluice/examples/internal/flights"
)

// maxBatchBytes leaves a batch a quarter of gRPC's 4 MiB for everything that is
// not rows.
const maxBatchBytes = 3 << 20

// Config configures a [Server]. A zero field is its default.
type Config struct {
	// BatchBytes is the size of a batch above which no further ledger is added,
	// and of the parts of a ledger that is bigger. Default 2 MiB, at most 3 MiB,
	// so that no message reaches gRPC's default limit of 4 MiB.
	BatchBytes int

	// BatchRows is the number of ledgers of a batch. Default 64.
	BatchRows int

	// FlushAfter sends a batch at once when its last ledger took longer than
	// this to arrive: a source that is slow, because it waits for ledgers to
	// close, must not wait until a batch is full. Default 50 ms, negative: never.
	FlushAfter time.Duration

	// Layout is how GetFlightInfo cuts a range into endpoints.
	Layout flights.Layout

	// Allocator is the memory of the batches. Default: Go's.
	Allocator memory.Allocator

	// Logger gets one line for each stream that fails. Default: nothing.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.BatchBytes = cmp.Or(c.BatchBytes, 2<<20)
	c.BatchRows = cmp.Or(c.BatchRows, 64)
	c.FlushAfter = cmp.Or(c.FlushAfter, 50*time.Millisecond)
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
	if c.BatchBytes < 1 || c.BatchBytes > maxBatchBytes {
		errs = append(errs, fmt.Errorf("source: BatchBytes is %d, want 1 to %d", c.BatchBytes, maxBatchBytes))
	}
	if c.BatchRows < 1 {
		errs = append(errs, fmt.Errorf("source: BatchRows is %d, want at least 1", c.BatchRows))
	}
	return errors.Join(errs...)
}
