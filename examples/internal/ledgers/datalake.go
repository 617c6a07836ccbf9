package ledgers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stellar/go-stellar-sdk/ingest/ledgerbackend"
	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/support/datastore"
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
	// manifest of another network is refused.
	Passphrase string

	// LedgersPerFile and FilesPerPartition are the layout of the store. Default:
	// what its manifest (.config.json) says; required when it has none.
	LedgersPerFile, FilesPerPartition uint32

	// Start and End are the first and the last ledger that are offered. Default:
	// the oldest and the latest in the store.
	Start, End uint32

	// BufferFiles bounds how many files are read ahead, for each stream, and
	// Workers how many are read at the same time. Default 8 and 4.
	BufferFiles, Workers uint32

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
	c.BufferFiles = cmp.Or(c.BufferFiles, 8)
	c.Workers = cmp.Or(c.Workers, min(4, c.BufferFiles))
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
	if c.Workers > c.BufferFiles {
		fail("Workers is %d, want at most BufferFiles, %d", c.Workers, c.BufferFiles)
	}
	if c.RetryWait < 0 {
		fail("RetryWait is %v, want at least 0", c.RetryWait)
	}
	return errors.Join(errs...)
}

// DataLake reads ledgers from a data lake in the layout of the SDK's ledger
// exporter, as the public network's is.
type DataLake struct {
	cfg    DataLakeConfig
	store  datastore.DataStoreConfig
	stream ledgerbackend.LedgerStream

	mu     sync.Mutex
	oldest uint32 // guarded by mu; 0 until it was looked for
}

var _ Source = (*DataLake)(nil)

// NewDataLake returns a source that reads a data lake. It opens nothing: each
// stream opens the store for itself.
func NewDataLake(cfg DataLakeConfig) (*DataLake, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	store := datastore.DataStoreConfig{
		Type:              cfg.Type,
		Params:            cfg.Params,
		NetworkPassphrase: cfg.Passphrase,
		Schema:            datastore.DataStoreSchema{LedgersPerFile: cfg.LedgersPerFile, FilesPerPartition: cfg.FilesPerPartition},
	}
	buffer := ledgerbackend.BufferedStorageBackendConfig{
		BufferSize: cfg.BufferFiles, NumWorkers: cfg.Workers, RetryLimit: cfg.Retries, RetryWait: cfg.RetryWait,
	}
	return &DataLake{cfg: cfg, store: store, stream: ledgerbackend.NewBufferedStorageStream(buffer, store, nil)}, nil
}

// Info names the store.
func (d *DataLake) Info() Info {
	var params []string
	for k, v := range d.cfg.Params {
		params = append(params, k+"="+v)
	}
	slices.Sort(params)
	return Info{
		Kind: "datalake", Passphrase: d.cfg.Passphrase,
		Note: fmt.Sprintf("reading a data lake: %s %s", d.cfg.Type, strings.Join(params, " ")),
	}
}

// Bounds returns the configured range; what is not configured is looked for in
// the store, the oldest ledger only once.
func (d *DataLake) Bounds(ctx context.Context) (Range, error) {
	r := Range{d.cfg.Start, d.cfg.End}
	if r.First == 0 {
		d.mu.Lock()
		r.First = d.oldest
		d.mu.Unlock()
	}
	if r.First != 0 && r.Last != 0 {
		return r, nil
	}
	r, err := d.search(ctx, r)
	if err != nil {
		return Range{}, fmt.Errorf("data lake: looking for its ledgers: %w: %w", ErrBackend, err)
	}
	if d.cfg.Start == 0 {
		d.mu.Lock()
		d.oldest = r.First
		d.mu.Unlock()
	}
	return r, nil
}

// search fills in the ends of r that are 0.
func (d *DataLake) search(ctx context.Context, r Range) (_ Range, err error) {
	store, err := datastore.NewDataStore(ctx, d.store)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	schema, err := datastore.LoadSchema(ctx, store, d.store)
	if err != nil {
		return r, err
	}
	if r.First == 0 {
		if r.First, err = datastore.FindOldestLedgerSequence(ctx, store, schema); err != nil {
			return r, err
		}
	}
	if r.Last == 0 {
		if r.Last, err = datastore.FindLatestLedgerSequence(ctx, store); err != nil {
			return r, err
		}
	}
	return r, nil
}

// Ledgers streams from the store.
func (d *DataLake) Ledgers(ctx context.Context, r Range) iter.Seq2[Ledger, error] {
	bounds, err := d.Bounds(ctx)
	if err == nil {
		err = CheckBounds(r, bounds)
	}
	if err != nil {
		return failed(err)
	}
	return fromStream(ctx, d.stream, r, true)
}
