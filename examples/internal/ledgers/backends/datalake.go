package backends

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/support/datastore"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// DataLakeConfig configures a [DataLake]. A zero field is its default.
type DataLakeConfig struct {
	// Type of the store: "Filesystem", "S3" or "GCS". Required.
	Type string

	// Params of the store, as the SDK names them. Required are: for Filesystem
	// destination_path, for GCS destination_bucket_path, for S3
	// destination_bucket_path and region (and endpoint_url for another S3).
	Params map[string]string

	// Passphrase of the network. Default: the public network. A store with a
	// manifest of another network is rejected.
	Passphrase string

	// LedgersPerFile and FilesPerPartition are the layout of the store. Default:
	// what its manifest (.config.json) says; required when it has none.
	LedgersPerFile, FilesPerPartition uint32

	// Start and End are the first and the last ledger that are offered. Default:
	// the oldest and the latest in the store.
	Start, End uint32

	// Follow waits for the ledgers that are not there yet, up to End, or for ever
	// without one. Otherwise the latest that is there is the last.
	Follow bool

	// Poll is how often a stream at the tip looks for the next ledger. Default 2 s.
	Poll time.Duration

	// BufferFiles bounds how many files are read ahead, for each stream. Default 4.
	BufferFiles uint32

	// MaxFileBytes is the largest file that is accepted, unpacked: a few bytes can
	// unpack to gigabytes. Default 64 MiB.
	MaxFileBytes int64

	// Retries is how often a failed read is repeated, RetryWait after how long.
	// Default 3 times after 1 s.
	Retries   uint32
	RetryWait time.Duration
}

// storeParams are the parameters that each type of store cannot do without.
var storeParams = map[string][]string{
	"Filesystem": {"destination_path"},
	"S3":         {"destination_bucket_path", "region"},
	"GCS":        {"destination_bucket_path"},
}

func (c DataLakeConfig) withDefaults() DataLakeConfig {
	c.Passphrase = cmp.Or(c.Passphrase, network.PublicNetworkPassphrase)
	c.Poll = cmp.Or(c.Poll, 2*time.Second)
	c.BufferFiles = cmp.Or(c.BufferFiles, 4)
	c.MaxFileBytes = cmp.Or(c.MaxFileBytes, 64<<20)
	c.Retries = cmp.Or(c.Retries, 3)
	c.RetryWait = cmp.Or(c.RetryWait, time.Second)
	return c
}

func (c DataLakeConfig) validate() error {
	var errs []error
	fail := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("ledgers: data lake: "+format, args...))
	}
	params, known := storeParams[c.Type]
	if !known {
		fail("Type is %q, want Filesystem, S3 or GCS", c.Type)
	}
	for _, p := range params {
		if c.Params[p] == "" {
			fail("Params has no %s, which %s needs", p, c.Type)
		}
	}
	if (c.LedgersPerFile == 0) != (c.FilesPerPartition == 0) {
		fail("LedgersPerFile is %d and FilesPerPartition is %d, want both or none", c.LedgersPerFile, c.FilesPerPartition)
	}
	if c.End != 0 && c.End < c.Start {
		fail("End is %d, want at least Start, %d", c.End, c.Start)
	}
	if c.MaxFileBytes < 0 {
		fail("MaxFileBytes is %d, want at least 1", c.MaxFileBytes)
	}
	if c.RetryWait < 0 {
		fail("RetryWait is %v, want at least 0", c.RetryWait)
	}
	return errors.Join(errs...)
}

// DataLake reads ledgers from a data lake in the layout of the SDK's ledger
// exporter, as the public network's is.
type DataLake struct {
	cfg     DataLakeConfig
	store   datastore.DataStoreConfig
	decoder *zstd.Decoder
	buffers sync.Pool // of *[]byte, for unpacked files
	latest  atomic.Uint32

	mu     sync.Mutex
	oldest uint32 // guarded by mu; 0 until it was looked for
}

var _ ledgers.Source = (*DataLake)(nil)

// NewDataLake returns a source that reads a data lake. It opens nothing: each
// stream opens the store for itself.
func NewDataLake(cfg DataLakeConfig) (*DataLake, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(uint64(cfg.MaxFileBytes)))
	if err != nil {
		return nil, err
	}
	return &DataLake{cfg: cfg, decoder: decoder, store: datastore.DataStoreConfig{
		Type:              cfg.Type,
		Params:            cfg.Params,
		NetworkPassphrase: cfg.Passphrase,
		Schema: datastore.DataStoreSchema{
			LedgersPerFile:    cfg.LedgersPerFile,
			FilesPerPartition: cfg.FilesPerPartition,
		},
	}}, nil
}

// Info names the store, without what may be secret in its endpoint.
func (d *DataLake) Info() ledgers.Info {
	var params []string
	for k, v := range d.cfg.Params {
		if k == "endpoint_url" {
			v = redacted(v)
		}
		params = append(params, k+"="+v)
	}
	slices.Sort(params)
	return ledgers.Info{
		Kind: "datalake", Passphrase: d.cfg.Passphrase,
		Note: fmt.Sprintf("reading a data lake: %s %s", d.cfg.Type, strings.Join(params, " ")),
	}
}

// Latest is the latest ledger of the store when it was last looked for; 0 before.
func (d *DataLake) Latest() uint32 { return d.latest.Load() }

// Bounds returns what there is of the configured range. The oldest ledger is
// looked for only once: a lake keeps what it has.
func (d *DataLake) Bounds(ctx context.Context) (ledgers.Range, error) {
	open, err := d.open(ctx)
	if err != nil {
		return ledgers.Range{}, fmt.Errorf("data lake: %w: %w", ledgers.ErrBackend, err)
	}
	defer open.store.Close()
	return d.bounds(ctx, open)
}

func (d *DataLake) bounds(ctx context.Context, open lake) (ledgers.Range, error) {
	latest, err := d.tip(ctx, open)
	if err != nil {
		return ledgers.Range{}, fmt.Errorf("data lake: looking for its ledgers: %w: %w", ledgers.ErrBackend, err)
	}
	d.mu.Lock()
	oldest := d.oldest
	d.mu.Unlock()
	if oldest == 0 {
		if oldest, err = datastore.FindOldestLedgerSequence(ctx, open.store, open.schema); err != nil {
			return ledgers.Range{}, fmt.Errorf("data lake: looking for its oldest ledger: %w: %w", ledgers.ErrBackend, err)
		}
		d.mu.Lock()
		d.oldest = oldest
		d.mu.Unlock()
	}
	return clamp(d.cfg.Start, d.cfg.End, ledgers.Range{First: oldest, Last: latest}, d.cfg.Follow)
}

// lake is an open store and its layout.
type lake struct {
	store  datastore.DataStore
	schema datastore.DataStoreSchema
}

func (d *DataLake) open(ctx context.Context) (lake, error) {
	store, err := datastore.NewDataStore(ctx, d.store)
	if err != nil {
		return lake{}, err
	}
	schema, err := datastore.LoadSchema(ctx, store, d.store)
	if err != nil {
		if _, nothing := datastore.GetLedgerFileExtension(ctx, store); errors.Is(nothing, datastore.ErrNoLedgerFiles) {
			err = d.empty()
		}
		return lake{}, errors.Join(err, store.Close())
	}
	return lake{store, schema}, nil
}

// empty says that the path may be mistyped.
func (d *DataLake) empty() error {
	return fmt.Errorf("there are no ledger files at %q: is the path right, bucket and prefix?",
		cmp.Or(d.cfg.Params["destination_path"], d.cfg.Params["destination_bucket_path"]))
}

func (d *DataLake) tip(ctx context.Context, open lake) (latest uint32, err error) {
	err = d.retry(ctx, func() error {
		latest, err = datastore.FindLatestLedgerSequence(ctx, open.store)
		return err
	})
	if errors.Is(err, datastore.ErrNoValidLedgerFiles) {
		return 0, d.empty()
	}
	if err == nil {
		d.latest.Store(latest)
	}
	return latest, err
}

// retry repeats f while what it fails for may pass.
func (d *DataLake) retry(ctx context.Context, f func() error) error {
	for attempt := uint32(0); ; attempt++ {
		err := f()
		if err == nil || attempt == d.cfg.Retries || errors.Is(err, os.ErrNotExist) || errors.Is(err,
			datastore.ErrNoValidLedgerFiles) {
			return err
		}
		select {
		case <-time.After(d.cfg.RetryWait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Ledgers streams from the store.
func (d *DataLake) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		open, err := d.open(ctx)
		if err != nil {
			yield(ledgers.Ledger{}, backend(ctx, r.First, err))
			return
		}
		defer open.store.Close()
		bounds, err := d.bounds(ctx, open)
		if err == nil {
			err = ledgers.CheckBounds(r, bounds)
		}
		if err != nil {
			yield(ledgers.Ledger{}, backend(ctx, r.First, err))
			return
		}
		tip := func(ctx context.Context) (uint32, error) { return d.tip(ctx, open) }
		read := func(ctx context.Context, r ledgers.Range) stream { return d.read(ctx, open, r) }
		chained(r.First, follow(ctx, r, d.cfg.Poll, tip, read))(yield)
	}
}
