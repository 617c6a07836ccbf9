package backends_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/backends"
)

const first = ledgers.SampleFirst

// writeLake writes the sample's ledgers of r into a folder in data-lake layout, as
// the SDK's exporter does, with a manifest if wanted.
func writeLake(t *testing.T, r ledgers.Range, schema datastore.DataStoreSchema, manifest bool) string {
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
		cfg      backends.DataLakeConfig
		bounds   ledgers.Range
	}{
		"as the public network's": {
			datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000},
			true,
			backends.DataLakeConfig{},
			all,
		},
		"several ledgers a file, no manifest": {
			datastore.DataStoreSchema{LedgersPerFile: 2, FilesPerPartition: 10},
			false,
			backends.DataLakeConfig{LedgersPerFile: 2, FilesPerPartition: 10, Start: first, End: first + 4},
			all,
		},
		"a part of it": {
			datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 1},
			true,
			backends.DataLakeConfig{Start: first + 1, End: first + 3, BufferFiles: 1},
			ledgers.Range{First: first + 1, Last: first + 3},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.Type = "Filesystem"
			tc.cfg.Params = map[string]string{"destination_path": writeLake(t, all, tc.schema, tc.manifest)}
			src, err := backends.NewDataLake(tc.cfg)
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

// repack unpacks a file, changes its batch and packs it again.
func repack(t *testing.T, file string, change func(*xdr.LedgerCloseMetaBatch)) {
	t.Helper()
	packed, err := os.ReadFile(file)
	require.NoError(t, err)
	var batch xdr.LedgerCloseMetaBatch
	_, err = compressxdr.NewXDRDecoder(compressxdr.DefaultCompressor, &batch).ReadFrom(bytes.NewReader(packed))
	require.NoError(t, err)
	change(&batch)
	var out bytes.Buffer
	_, err = compressxdr.NewXDREncoder(compressxdr.DefaultCompressor, &batch).WriteTo(&out)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, out.Bytes(), 0o600))
}

// Damage is named at once, as what it is: with a wait of an hour between
// attempts, a second attempt would hang the test.
func TestDataLakeDamage(t *testing.T) {
	schema := datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 10}
	all := ledgers.Range{First: first, Last: first + 3}
	good := writeLake(t, all, schema, true)
	write := func(t *testing.T, file string, content []byte) {
		require.NoError(t, os.WriteFile(file, content, 0o600))
	}
	for name, tc := range map[string]struct {
		damage func(t *testing.T, file string)
		kind   error
		want   string
	}{
		"a file is missing": {
			func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) }, ledgers.ErrNotFound,
			"file does not exist",
		},
		"a file is empty": {func(t *testing.T, file string) { write(t, file, nil) }, ledgers.ErrCorrupt, ""},
		"a file is no zstd": {
			func(t *testing.T, file string) { write(t, file, []byte("hello world")) }, ledgers.ErrCorrupt,
			"magic number mismatch",
		},
		"a file is cut off": {
			func(t *testing.T, file string) { require.NoError(t, os.Truncate(file, 1000)) },
			ledgers.ErrCorrupt, "unpacking",
		},
		"a bit is flipped": {func(t *testing.T, file string) {
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			b[len(b)/2] ^= 1
			write(t, file, b)
		}, ledgers.ErrCorrupt, "unpacking"},
		"a file is another's": {func(t *testing.T, file string) {
			b, err := os.ReadFile(filepath.Join(filepath.Dir(file),
				filepath.Base(schema.GetObjectKeyFromSequenceNumber(first+1))))
			require.NoError(t, err)
			write(t, file, b)
		}, ledgers.ErrCorrupt, "53312001 to 53312001: another file's content"},
		"the batch says another range": {func(t *testing.T, file string) {
			repack(t, file, func(b *xdr.LedgerCloseMetaBatch) { b.EndSequence++ })
		}, ledgers.ErrCorrupt, "and has 1 ledgers"},
		"the batch has another ledger": {func(t *testing.T, file string) {
			repack(t, file, func(b *xdr.LedgerCloseMetaBatch) { b.LedgerCloseMetas[0].V1.LedgerHeader.Header.LedgerSeq++ })
		}, ledgers.ErrCorrupt, "its header says 53312003"},
		"the chain is broken": {func(t *testing.T, file string) {
			repack(t, file, func(b *xdr.LedgerCloseMetaBatch) {
				b.LedgerCloseMetas[0].V1.LedgerHeader.Header.PreviousLedgerHash[0] ^= 1
			})
		}, ledgers.ErrCorrupt, "broken chain of hashes"},
		"it unpacks to gigabytes": {func(t *testing.T, file string) {
			var bomb bytes.Buffer
			w, err := zstd.NewWriter(&bomb)
			require.NoError(t, err)
			for range 128 {
				_, err = w.Write(make([]byte, 1<<20))
				require.NoError(t, err)
			}
			require.NoError(t, w.Close())
			write(t, file, bomb.Bytes())
		}, ledgers.ErrCorrupt, "exceeds"},
		"it is too big packed": {
			func(t *testing.T, file string) { write(t, file, make([]byte, 65<<20)) },
			ledgers.ErrCorrupt, "more than 67108864 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "lake")
			require.NoError(t, os.CopyFS(dir, os.DirFS(good)))
			tc.damage(t, filepath.Join(dir, schema.GetObjectKeyFromSequenceNumber(first+2)))
			src, err := backends.NewDataLake(backends.DataLakeConfig{
				Type: "Filesystem", Params: map[string]string{"destination_path": dir}, Start: first, End: first + 3,
				RetryWait: time.Hour,
			})
			require.NoError(t, err)
			seen := uint32(0)
			for _, err = range src.Ledgers(t.Context(), all) {
				if err == nil {
					seen++
				}
			}
			require.ErrorIs(t, err, tc.kind)
			require.ErrorContains(t, err, tc.want)
			var typed *ledgers.Error
			require.ErrorAs(t, err, &typed)
			require.Equal(t, first+2, typed.Sequence)
			require.Equal(t, uint32(2), seen, "the ledgers before it are good")
		})
	}
}

func openFolder(t *testing.T, dir string, cfg backends.DataLakeConfig) *backends.DataLake {
	t.Helper()
	cfg.Type, cfg.Params = "Filesystem", map[string]string{"destination_path": dir}
	src, err := backends.NewDataLake(cfg)
	require.NoError(t, err)
	return src
}

// An unpacked file is bounded whatever its packed form says about itself.
func FuzzDataLakeFile(f *testing.F) {
	f.Add([]byte("hello world"))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x01, 0x00, 0x00})
	schema := datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 10}
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, schema.GetObjectKeyFromSequenceNumber(first))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, content, 0o600))
		src := openFolder(t, dir, backends.DataLakeConfig{LedgersPerFile: 1, FilesPerPartition: 10, MaxFileBytes: 1 << 20})
		err := drain(src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first}))
		require.ErrorIs(t, err, ledgers.ErrCorrupt)
	})
}

// What is configured and not there is said, and a path with nothing below it.
func TestDataLakeBounds(t *testing.T) {
	dir := writeLake(t, ledgers.Range{First: first, Last: first + 3}, datastore.DataStoreSchema{
		LedgersPerFile:    1,
		FilesPerPartition: 10,
	}, true)
	for want, cfg := range map[string]backends.DataLakeConfig{
		"start lies after the latest ledger that is there, 53312003": {Start: first + 4},
		"end lies before the oldest ledger that is there, 53312000":  {End: first - 1},
	} {
		_, err := openFolder(t, dir, cfg).Bounds(t.Context())
		require.ErrorIs(t, err, ledgers.ErrNotFound)
		require.ErrorContains(t, err, want)
	}
	bounds, err := openFolder(t, dir, backends.DataLakeConfig{Start: first - 9, End: first + 99}).Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, "53312000-53312003", bounds.String(), "what there is of it")

	for _, cfg := range []backends.DataLakeConfig{{}, {LedgersPerFile: 1, FilesPerPartition: 10}} {
		_, err = openFolder(t, t.TempDir(), cfg).Bounds(t.Context())
		require.ErrorContains(t, err, "there are no ledger files at")
	}
}

// A stream at the tip waits for the next ledger.
func TestDataLakeFollowsTheTip(t *testing.T) {
	schema := datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 10}
	whole := writeLake(t, ledgers.Range{First: first, Last: first + 4}, schema, true)
	dir := filepath.Join(t.TempDir(), "lake")
	require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
	file := func(dir string, seq uint32) string {
		return filepath.Join(dir, schema.GetObjectKeyFromSequenceNumber(seq))
	}
	for seq := first + 2; seq <= first+4; seq++ {
		require.NoError(t, os.Remove(file(dir, seq)))
	}
	src := openFolder(t, dir, backends.DataLakeConfig{Follow: true, Poll: time.Millisecond})
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, ledgers.Range{First: first, Last: backends.NoEnd}, bounds)
	require.Equal(t, first+1, src.Latest())
	next := first
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for l, err := range src.Ledgers(ctx, bounds) {
		if next > first+4 {
			require.ErrorIs(t, err, context.Canceled, "it ends as its context does")
			break
		}
		require.NoError(t, err)
		require.Equal(t, next, l.Sequence)
		if next++; next > first+4 {
			time.AfterFunc(5*time.Millisecond, cancel)
		} else if next > first+1 {
			require.NoError(t, os.Rename(file(whole, next), file(dir, next)))
		}
	}
	require.Equal(t, first+5, next)
	require.Equal(t, first+4, src.Latest())
}

func TestDataLakeOfAnotherNetwork(t *testing.T) {
	dir := writeLake(t, ledgers.Range{First: first, Last: first}, datastore.DataStoreSchema{
		LedgersPerFile:    1,
		FilesPerPartition: 10,
	}, true)
	src, err := backends.NewDataLake(backends.DataLakeConfig{
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
	_, err := backends.NewDataLake(backends.DataLakeConfig{
		Type: "S3", LedgersPerFile: 1, Start: 9, End: 8, MaxFileBytes: -1, RetryWait: -1,
		Params: map[string]string{"destination_bucket_path": "b"},
	})
	for _, want := range []string{
		"Params has no region, which S3 needs", "FilesPerPartition is 0, want both or none",
		"End is 8, want at least Start, 9", "MaxFileBytes is -1", "RetryWait is -1ns",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = backends.NewDataLake(backends.DataLakeConfig{Type: "FTP"})
	require.ErrorContains(t, err, `Type is "FTP", want Filesystem, S3 or GCS`)
}
