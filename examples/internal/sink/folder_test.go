package sink

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func TestFileNames(t *testing.T) {
	r := ledgers.Range{First: 53312000, Last: 53312031}
	name := fileName(r, Parquet)
	require.Equal(t, "ttp_events-0053312000-0053312031.parquet", name)
	got, format, ok := parseFileName(name)
	require.True(t, ok)
	require.Equal(t, r, got)
	require.Equal(t, Parquet, format)
	for _, other := range []string{"checkpoint.json", "ttp_events-1-2.parquet", "ttp_events-0053312000.parquet", "ttp_events-0053312000-0053312031", "ttp_events-0053312000-0053312031x.parquet"} {
		_, _, ok := parseFileName(other)
		require.False(t, ok, other)
	}
}

// A crash leaves a file aside, or a complete one that no checkpoint counts.
// Neither survives the next start, and nothing else is touched.
func TestOpenFolderAfterACrash(t *testing.T) {
	dir := t.TempDir()
	want := ledgers.Range{First: 10, Last: 99}
	f, err := openFolder(dir, Parquet, want)
	require.NoError(t, err)
	cp := f.cp
	cp.Next = 20
	file, err := f.create()
	require.NoError(t, err)
	require.NoError(t, f.commit(file, ledgers.Range{First: 10, Last: 19}, cp))
	_, err = f.create() // was being written
	require.NoError(t, err)
	orphan := filepath.Join(dir, fileName(ledgers.Range{First: 20, Last: 29}, Parquet))
	require.NoError(t, os.WriteFile(orphan, nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644))

	require.NoError(t, f.close())
	f, err = openFolder(dir, Parquet, want)
	require.NoError(t, err)
	require.Equal(t, uint32(20), f.cp.Next)
	require.Equal(t, 1, f.cp.Files)
	files, err := Files(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Equal(t, ledgers.Range{First: 10, Last: 19}, files[0].Range)
	require.NoFileExists(t, orphan)
	require.FileExists(t, filepath.Join(dir, "notes.txt"))
	left, err := os.ReadDir(filepath.Join(dir, asideName))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestOpenFolderRefusesAnotherRun(t *testing.T) {
	dir := t.TempDir()
	f, err := openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99})
	require.NoError(t, err)
	cp := f.cp
	cp.Next = 50
	require.NoError(t, f.saveCheckpoint(cp))
	require.NoError(t, f.close())
	for want, open := range map[string]func() error{
		"from ledger 10, not from 11": func() error {
			_, err := openFolder(dir, Parquet, ledgers.Range{First: 11, Last: 99})
			return err
		},
		"parquet files, not csv": func() error {
			_, err := openFolder(dir, CSV, ledgers.Range{First: 10, Last: 99})
			return err
		},
		"up to 49, past 40": func() error {
			_, err := openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 40})
			return err
		},
	} {
		require.ErrorContains(t, open(), want)
	}
	f, err = openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 200})
	require.NoError(t, err, "a run may be made longer")
	require.Equal(t, uint32(50), f.cp.Next)
	require.NoError(t, f.close())
	for _, text := range []string{"", "{}", `{"range":{"First":10,"Last":99},"next":9}`, `{"range":{"First":10,"Last":99},"next":101}`} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, checkpointName), []byte(text), 0o644))
		_, err := openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99})
		require.ErrorContains(t, err, checkpointName, "%q", text)
	}
}

func TestTotalsAreExact(t *testing.T) {
	totals, err := newTotals(nil, nil)
	require.NoError(t, err)
	v := totals.at("transfer", "native")
	for _, amount := range []string{"9223372036854775807", "9223372036854775807", "-1", "170141183460469231731687303715884105727", "0"} {
		require.NoError(t, v.add(amount))
	}
	require.Error(t, v.add("1.5"))
	require.Equal(t, "170141183460469231750134047789593657340", v.amount())
	saved := totals.snapshot()
	again, err := newTotals(saved, map[string]int64{"transfer": 5})
	require.NoError(t, err)
	require.Equal(t, saved, again.snapshot())
	require.Equal(t, int64(5), again.events)
	_, err = newTotals([]Total{{Amount: "x"}}, nil)
	require.Error(t, err)
	require.Equal(t, int64(math.MaxInt64), func() int64 { w := &totalValue{}; _ = w.add("9223372036854775807"); return w.small }())
}

// Anybody can issue assets: their number must not be that of our memory.
func TestTotalsAreBounded(t *testing.T) {
	totals, err := newTotals(nil, nil)
	require.NoError(t, err)
	for i := range 3 * maxTotals {
		totals.at("transfer", string(rune('a'+i%26))+string(rune('A'+i/26%26))+string(rune('0'+i/676))).events++
	}
	require.LessOrEqual(t, len(totals.byKey), maxTotals+1)
	var other Total
	sum := int64(0)
	for _, row := range totals.snapshot() {
		sum += row.Events
		if row.Asset == OtherAssets {
			other = row
		}
	}
	require.Equal(t, int64(3*maxTotals), sum, "everything is counted")
	require.Positive(t, other.Events)
	require.Empty(t, other.Amount)
}
