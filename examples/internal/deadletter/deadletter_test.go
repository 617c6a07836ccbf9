package deadletter_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/deadletter"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// damaged has ledgers 1 to 1000, of which some are bad.
type damaged map[uint32]error

func (d damaged) Info() ledgers.Info { return ledgers.Info{Kind: "damaged"} }

func (d damaged) Bounds(context.Context) (ledgers.Range, error) {
	return ledgers.Range{First: 1, Last: 1000}, nil
}

func (d damaged) Ledgers(_ context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		for seq := r.First; seq <= r.Last; seq++ {
			if kind := d[seq]; kind != nil {
				yield(ledgers.Ledger{}, &ledgers.Error{Sequence: seq, Kind: kind, Err: errors.New("bit flip")})
				return
			}
			if !yield(ledgers.Ledger{Sequence: seq, Raw: []byte{1}}, nil) {
				return
			}
		}
	}
}

func read(t *testing.T, s deadletter.Source, r ledgers.Range) (got string, err error) {
	t.Helper()
	next := r.First
	for l, err := range s.Ledgers(t.Context(), r) {
		if err != nil {
			return got, err
		}
		require.Equal(t, next, l.Sequence)
		require.Equal(t, l.SetAside, l.Raw == nil)
		if next++; l.SetAside {
			got += "-"
		} else {
			got += "x"
		}
	}
	return got, nil
}

func TestCorruptLedgersAreSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "letters")
	folder, err := deadletter.Open(dir, nil)
	require.NoError(t, err)
	src := deadletter.Source{Source: damaged{
		1: ledgers.ErrCorrupt, 3: ledgers.ErrCorrupt, 4: ledgers.ErrCorrupt,
		6: ledgers.ErrCorrupt, 8: ledgers.ErrNotFound,
	}, Folder: folder}
	got, err := read(t, src, ledgers.Range{First: 1, Last: 6})
	require.NoError(t, err)
	require.Equal(t, "-x--x-", got)
	require.EqualValues(t, 4, folder.Count())
	got, err = read(t, src, ledgers.Range{First: 1, Last: 6})
	require.NoError(t, err)
	require.Equal(t, "-x--x-", got)
	require.EqualValues(t, 4, folder.Count(), "each is counted once")

	got, err = read(t, src, ledgers.Range{First: 6, Last: 9})
	require.ErrorIs(t, err, ledgers.ErrNotFound, "one that is not there is not damaged")
	require.Equal(t, "-x", got)

	text, err := os.ReadFile(filepath.Join(dir, "ledger-0000000003.json"))
	require.NoError(t, err)
	var letter deadletter.Letter
	require.NoError(t, json.Unmarshal(text, &letter))
	require.Equal(t, uint32(3), letter.Ledger)
	require.Contains(t, letter.Cause, "bit flip")
	require.Zero(t, letter.Bytes)

	for range src.Ledgers(t.Context(), ledgers.Range{First: 2, Last: 6}) {
		break // nothing is asked for behind the caller's back
	}
}

func TestTheBytesAreKept(t *testing.T) {
	dir := t.TempDir()
	folder, err := deadletter.Open(dir, nil)
	require.NoError(t, err)
	require.NoError(t, folder.SetAside(7, []byte("xdr"), errors.New("extraction")))
	raw, err := os.ReadFile(filepath.Join(dir, "ledger-0000000007.xdr"))
	require.NoError(t, err)
	require.Equal(t, "xdr", string(raw))

	again, err := deadletter.Open(dir, nil)
	require.NoError(t, err)
	require.NoError(t, again.SetAside(7, nil, errors.New("set aside by the source")))
	text, err := os.ReadFile(filepath.Join(dir, "ledger-0000000007.json"))
	require.NoError(t, err)
	require.Contains(t, string(text), "extraction", "what was said first stays")
}

// What fails everywhere is no poisoned ledger: it ends the run.
func TestTooManyEndTheRun(t *testing.T) {
	folder, err := deadletter.Open(t.TempDir(), nil)
	require.NoError(t, err)
	all := damaged{}
	for seq := range uint32(1000) {
		all[seq+1] = ledgers.ErrCorrupt
	}
	got, err := read(t, deadletter.Source{Source: all, Folder: folder}, ledgers.Range{First: 1, Last: 1000})
	require.ErrorIs(t, err, ledgers.ErrCorrupt)
	require.ErrorContains(t, err, fmt.Sprintf("ledger %d", deadletter.MaxLedgers+1))
	require.Len(t, got, deadletter.MaxLedgers)
}

func TestAFolderThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	folder, err := deadletter.Open(dir, nil)
	require.NoError(t, err)
	require.NoError(t, os.Remove(dir))
	cause := errors.New("cause")
	require.ErrorIs(t, folder.SetAside(7, nil, cause), cause)
	require.Zero(t, folder.Count())
	_, err = deadletter.Open("/dev/null/x", nil)
	require.Error(t, err)
}
