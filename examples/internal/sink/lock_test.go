package sink

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func TestTheSecondSinkOnAFolderIsRejected(t *testing.T) {
	dir := t.TempDir()
	want := ledgers.Range{First: 10, Last: 99}
	f, err := openFolder(dir, Parquet, want, sample)
	require.NoError(t, err)
	unfinished, err := f.create()
	require.NoError(t, err)

	_, err = openFolder(dir, Parquet, want, sample)
	require.ErrorIs(t, err, ErrLocked)
	var locked *LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.Holder.PID)
	require.NotZero(t, locked.Holder.Since)
	require.ErrorContains(t, err, "on "+locked.Holder.Host)
	require.FileExists(t, unfinished.file.Name(), "the second one touched nothing")

	require.NoError(t, f.close())
	f, err = openFolder(dir, Parquet, want, sample)
	require.NoError(t, err, "a lock that was given up is free")
	require.NoError(t, f.close())
}

// A folder that was removed, or locked anew, below a sink belongs to it no more.
func TestACommitChecksTheLock(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"the lock is gone": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, lockName)))
			require.NoError(t, os.Remove(filepath.Join(dir, holderName)))
		},
		"belongs to another sink": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, lockName)))
			other, err := lockFolder(dir)
			require.NoError(t, err)
			t.Cleanup(func() { other.release() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, err := openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99}, sample)
			require.NoError(t, err)
			spoil(t, dir)
			require.ErrorContains(t, add(t, f), name)
			cp, err := ReadCheckpoint(dir)
			require.NoError(t, err)
			require.Equal(t, uint32(10), cp.Next)
			require.NoFileExists(t, filepath.Join(dir, fileName(ledgers.Range{First: 10, Last: 19}, Parquet)))
		})
	}
}
