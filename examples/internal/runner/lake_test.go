package runner_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/support/compressxdr"
	"github.com/stellar/go-stellar-sdk/support/datastore"
	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/ledgerstest"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// lake writes n ledgers of the sample into a folder in the layout of a public
// data lake, one ledger a file, with its manifest.
func lake(t *testing.T, n uint32) (dir string, fileOf func(ledger uint32) string) {
	t.Helper()
	dir = t.TempDir()
	store, err := datastore.NewFilesystemDataStoreWithPath(dir)
	require.NoError(t, err)
	schema := datastore.DataStoreSchema{LedgersPerFile: 1, FilesPerPartition: 64000}
	_, _, err = datastore.PublishConfig(t.Context(), store, datastore.DataStoreConfig{
		Schema: schema, NetworkPassphrase: network.PublicNetworkPassphrase, Compression: "zstd",
	})
	require.NoError(t, err)
	src := ledgerstest.Sample(t, n)
	all, err := src.Bounds(t.Context())
	require.NoError(t, err)
	for l, err := range src.Ledgers(t.Context(), all) {
		require.NoError(t, err)
		var lcm xdr.LedgerCloseMeta
		require.NoError(t, xdr.SafeUnmarshal(l.Raw, &lcm))
		batch := xdr.LedgerCloseMetaBatch{
			StartSequence:    xdr.Uint32(l.Sequence),
			EndSequence:      xdr.Uint32(l.Sequence),
			LedgerCloseMetas: []xdr.LedgerCloseMeta{lcm},
		}
		encoder := compressxdr.NewXDREncoder(compressxdr.DefaultCompressor, &batch)
		require.NoError(t, store.PutFile(t.Context(), schema.GetObjectKeyFromSequenceNumber(l.Sequence), encoder, nil))
	}
	return dir, func(ledger uint32) string { return filepath.Join(dir, schema.GetObjectKeyFromSequenceNumber(ledger)) }
}

func TestPipelineOnADataLake(t *testing.T) {
	dir, _ := lake(t, 6)
	tr := start(
		t,
		t.TempDir(),
		programs.All(),
		[]string{"DATALAKE_PATH=" + dir},
		"-inprocess",
		"-source=datalake",
		"-ledgers=4",
	)
	requireTruthOfTwo(t, tr.wait(t), 2)
	require.Contains(t, tr.output(t), "ledgers 53312000 to 53312003 into", "cut to what was asked for")
}

// Fewer ledgers than were asked for are said to be, and have a status of their
// own.
func TestFewerLedgersThanAskedFor(t *testing.T) {
	dir, _ := lake(t, 4)
	out := t.TempDir()
	tr := start(
		t,
		out,
		programs.All(),
		[]string{"DATALAKE_PATH=" + dir},
		"-inprocess",
		"-source=datalake",
		"-ledgers=5000",
	)
	requireTruthOfTwo(t, tr.ends(t, component.ExitShort), 2)
	require.Contains(t, tr.output(t), "5000 ledgers were asked for, 4 are there")
	again := start(
		t,
		out,
		programs.All(),
		[]string{"DATALAKE_PATH=" + dir},
		"-inprocess",
		"-source=datalake",
		"-resume",
		"-ledgers=2",
	)
	require.ErrorContains(t, <-again.done, "cannot be made shorter")
}

// A folder of files without a checkpoint is not continued, and not touched.
func TestAFolderWithoutItsCheckpointIsNotContinued(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "ttp_events-0053312000-0053312063.parquet")
	require.NoError(t, os.WriteFile(name, []byte("64 ledgers"), 0o644))
	tr := start(t, t.TempDir(), programs.All(), nil, "-inprocess", "-resume="+dir, "-ledgers=2")
	require.ErrorContains(t, <-tr.done, "it holds 1 files and no checkpoint")
	require.FileExists(t, name)
}

// A ledger that does not decode ends the run and is named. What came before it
// stays, and once the lake is repaired the run goes on there.
func TestADamagedLedgerEndsTheRunAndIsNamed(t *testing.T) {
	dir, fileOf := lake(t, 6)
	bad := ledgers.SampleFirst + 3
	whole, err := os.ReadFile(fileOf(bad))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(fileOf(bad), whole[:len(whole)/2], 0o644))
	out := t.TempDir()
	lakeIs := []string{"DATALAKE_PATH=" + dir}
	tr := start(t, out, programs.All(), lakeIs, "-inprocess", "-source=datalake", "-ledgers=6")
	err = <-tr.done
	require.ErrorContains(t, err, fmt.Sprint(bad))
	cp, err := sink.ReadCheckpoint(tr.dir(t))
	require.NoError(t, err)
	require.Equal(t, bad, cp.Next)

	require.NoError(t, os.WriteFile(fileOf(bad), whole, 0o644))
	again := start(t, out, programs.All(), lakeIs, "-inprocess", "-source=datalake", "-resume")
	requireTruthOfTwo(t, again.wait(t), 3)
}

// Where a data lake is read from and to is what START_LEDGER and END_LEDGER say.
func TestPipelineStartsAndEndsWhereItIsTold(t *testing.T) {
	dir, _ := lake(t, 8)
	env := []string{
		"DATALAKE_PATH=" + dir,
		fmt.Sprintf("START_LEDGER=%d", ledgers.SampleFirst+2),
		fmt.Sprintf("END_LEDGER=%d", ledgers.SampleFirst+5),
	}
	tr := start(t, t.TempDir(), programs.All(), env, "-inprocess", "-source=datalake")
	requireTruthOfTwo(t, tr.wait(t), 2)
	require.Contains(t, tr.output(t), "ledgers 53312002 to 53312005 into")

	tr = start(t, t.TempDir(), programs.All(), env, "-inprocess", "-source=datalake", "-ledgers=2")
	requireTruthOfTwo(t, tr.wait(t), 1)
	require.Contains(t, tr.output(t), "ledgers 53312002 to 53312003 into")
}

// With a dead-letter folder damaged ledgers go there, from the source and from the
// processor, are counted, and the run goes on.
func TestDamagedLedgersGoToTheDeadLetterFolder(t *testing.T) {
	dir, fileOf := lake(t, 6)
	bad := []uint32{ledgers.SampleFirst + 1, ledgers.SampleFirst + 4}
	for _, seq := range bad {
		whole, err := os.ReadFile(fileOf(seq))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(fileOf(seq), whole[:len(whole)/2], 0o644))
	}
	letters := filepath.Join(t.TempDir(), "letters")
	tr := start(
		t,
		t.TempDir(),
		programs.All(),
		[]string{"DATALAKE_PATH=" + dir, "DEAD_LETTER_DIR=" + letters},
		"-inprocess",
		"-source=datalake",
		"-ledgers=5",
		"-serve",
	)
	at := tr.said(t, `stellar-arrow-source at \S+, metrics at (\S+)/metrics`)[1]
	tr.durable(t, 5)
	_, body := get(t, at+"/metrics")
	require.Contains(t, body, "stellar_ledgers_set_aside_total 2")
	require.Contains(t, body, fmt.Sprintf("stellar_ledgers_lag %d\n", 1), "the sixth was not asked for")
	require.Contains(t, body, "stellar_ledgers_lag_seconds ")
	tr.interrupts <- os.Interrupt
	s := tr.wait(t)
	require.Equal(t, int64(5), s.Ledgers)
	require.Zero(t, *s.Lost)
	for _, seq := range bad {
		text, err := os.ReadFile(filepath.Join(letters, fmt.Sprintf("ledger-%010d.json", seq)))
		require.NoError(t, err)
		require.Contains(t, string(text), "unpacking it")
	}
}
