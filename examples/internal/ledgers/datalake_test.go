package ledgers_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

const first = ledgers.SampleFirst

// lake writes the sample's ledgers of r into a folder in data-lake layout, as
// the SDK's exporter does, with a manifest if wanted.
func lake(t *testing.T, r ledgers.Range, schema datastore.DataStoreSchema, manifest bool) string {
	t.Helper()
	dir := t.TempDir()
	store, err := datastore.NewFilesystemDataStoreWithPath(dir)
	require.NoError(t, err)
	if manifest {
		_, created, err := datastore.PublishConfig(t.Context(), store, datastore.DataStoreConfig{
			Schema: schema, NetworkPassphrase: network.PublicNetworkPassphrase, Compression: "zstd",
		})
		require.NoError(t, err)
		require.True(t, created)
	}
	src, err := ledgers.NewSample(r.Last - first + 1)
	require.NoError(t, err)
	var batch xdr.LedgerCloseMetaBatch
	for l, err := range src.Ledgers(t.Context(), r) {
		require.NoError(t, err)
		var lcm xdr.LedgerCloseMeta
		require.NoError(t, xdr.SafeUnmarshal(l.Raw, &lcm))
		if len(batch.LedgerCloseMetas) == 0 {
			batch.StartSequence = xdr.Uint32(l.Sequence)
		}
		batch.LedgerCloseMetas = append(batch.LedgerCloseMetas, lcm)
		batch.EndSequence = xdr.Uint32(l.Sequence)
		if l.Sequence == schema.GetSequenceNumberEndBoundary(l.Sequence) || l.Sequence == r.Last {
			encoder := compressxdr.NewXDREncoder(compressxdr.DefaultCompressor, &batch)
			require.NoError(t, store.PutFile(t.Context(), schema.GetObjectKeyFromSequenceNumber(l.Sequence), encoder, nil))
			batch = xdr.LedgerCloseMetaBatch{}
		}
	}
	return dir
}

// sameAsSample proves that a stream yields the sample's bytes.
func sameAsSample(t *testing.T, src ledgers.Source, r ledgers.Range) {
	t.Helper()
	sample, err := ledgers.NewSample(r.Last - first + 1)
	require.NoError(t, err)
	want := map[uint32][]byte{}
	for l, err := range sample.Ledgers(t.Context(), r) {
		require.NoError(t, err)
		want[l.Sequence] = bytes.Clone(l.Raw)
	}
	next := r.First
	for l, err := range src.Ledgers(t.Context(), r) {
		require.NoError(t, err)
		require.Equal(t, next, l.Sequence)
		require.True(t, bytes.Equal(want[next], l.Raw))
		next++
	}
	require.Equal(t, r.Last+1, next)
}

func TestDataLakeInAFolder(t *testing.T) {
	all := ledgers.Range{First: first, Last: first + 4}
	for name, tc := range map[string]struct {
		schema   datastore.DataStoreSchema
		manifest bool
		cfg      ledgers.DataLakeConfig
		bounds   ledgers.Range
	}{
		"as the public network's": {
			datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000},
			true,
			ledgers.DataLakeConfig{},
			all,
		},
		"several ledgers a file, no manifest": {
			datastore.DataStoreSchema{LedgersPerFile: 2, FilesPerPartition: 10},
			false,
			ledgers.DataLakeConfig{LedgersPerFile: 2, FilesPerPartition: 10, Start: first, End: first + 4},
			all,
		},
		"a part of it": {
			datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 1},
			true,
			ledgers.DataLakeConfig{Start: first + 1, End: first + 3, BufferFiles: 1},
			ledgers.Range{First: first + 1, Last: first + 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Type = "Filesystem"
			tc.cfg.Params = map[string]string{"destination_path": lake(t, all, tc.schema, tc.manifest)}
			src, err := ledgers.NewDataLake(tc.cfg)
			require.NoError(t, err)
			require.Equal(t, "datalake", src.Info().Kind)
			bounds, err := src.Bounds(t.Context())
			require.NoError(t, err)
			require.Equal(t, tc.bounds, bounds)
			sameAsSample(t, src, bounds)
			sameAsSample(t, src, ledgers.Range{First: bounds.First + 1, Last: bounds.Last - 1})

			err = drain(src.Ledgers(t.Context(), ledgers.Range{First: bounds.Last, Last: bounds.Last + 1}))
			require.ErrorIs(t, err, ledgers.ErrNotFound)
		})
	}
}

func TestDataLakeDamage(t *testing.T) {
	schema := datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 10}
	all := ledgers.Range{First: first, Last: first + 3}
	good := lake(t, all, schema, true)
	for name, tc := range map[string]struct {
		damage func(t *testing.T, file string)
		want   error
	}{
		"a file is missing": {func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) }, ledgers.ErrNotFound},
		"a file is no zstd": {func(t *testing.T, file string) { require.NoError(t, os.WriteFile(file, []byte("hello world"), 0o600)) }, ledgers.ErrCorrupt},
		"a file is cut off": {func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 1000)) }, ledgers.ErrCorrupt},
		"a file is another's": {func(t *testing.T, file string) {
			other := filepath.Join(filepath.Dir(file), filepath.Base(schema.GetObjectKeyFromSequenceNumber(first+1)))
			b, err := os.ReadFile(other)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, b, 0o600))
		}, ledgers.ErrBackend}, // the SDK's error has no type
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "lake")
			require.NoError(t, os.CopyFS(dir, os.DirFS(good)))
			tc.damage(t, filepath.Join(dir, schema.GetObjectKeyFromSequenceNumber(first+2)))
			src, err := ledgers.NewDataLake(ledgers.DataLakeConfig{
				Type: "Filesystem", Params: map[string]string{"destination_path": dir}, Start: first, End: first + 3, RetryWait: time.Millisecond,
			})
			require.NoError(t, err)
			seen := uint32(0)
			for _, err = range src.Ledgers(t.Context(), all) {
				if err == nil {
					seen++
				}
			}
			require.ErrorIs(t, err, tc.want)
			var typed *ledgers.Error
			require.ErrorAs(t, err, &typed)
			require.Equal(t, first+2, typed.Sequence)
			require.Equal(t, uint32(2), seen, "the ledgers before it are good")
		})
	}
}

func TestDataLakeOfAnotherNetwork(t *testing.T) {
	dir := lake(t, ledgers.Range{First: first, Last: first}, datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 10}, true)
	src, err := ledgers.NewDataLake(ledgers.DataLakeConfig{
		Type: "Filesystem", Params: map[string]string{"destination_path": dir}, Passphrase: network.TestNetworkPassphrase,
	})
	require.NoError(t, err)
	_, err = src.Bounds(t.Context())
	require.ErrorIs(t, err, ledgers.ErrBackend)
	require.ErrorContains(t, err, "networkPassphrase")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, drain(src.Ledgers(ctx, ledgers.Range{First: first, Last: first})))
}

func TestDataLakeConfig(t *testing.T) {
	_, err := ledgers.NewDataLake(ledgers.DataLakeConfig{
		Type: "S3", LedgersPerFile: 1, Start: 9, End: 8, Workers: 9, BufferFiles: 8, RetryWait: -1,
		Params: map[string]string{"destination_bucket_path": "b"},
	})
	for _, want := range []string{
		"Params has no region, which S3 needs", "FilesPerPartition is 0, want both or none",
		"End is 8, want at least Start, 9", "Workers is 9, want at most BufferFiles, 8", "RetryWait is -1ns",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = ledgers.NewDataLake(ledgers.DataLakeConfig{Type: "FTP"})
	require.ErrorContains(t, err, `Type is "FTP", want Filesystem, S3 or GCS`)
}
