package sink

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink/failpoint"
)

var sample = events.Origin{Network: "public", Source: "sample"}

func open(t *testing.T, dir string, first, last uint32) *folder {
	t.Helper()
	f, err := openFolder(dir, Parquet, ledgers.Range{First: first, Last: last}, sample)
	require.NoError(t, err)
	t.Cleanup(func() { f.close() })
	return f
}

// add commits a file of ten ledgers.
func add(t *testing.T, f *folder) error {
	t.Helper()
	file, err := f.create()
	require.NoError(t, err)
	_, err = file.Write([]byte("ten ledgers"))
	require.NoError(t, err)
	cp := f.cp
	r := ledgers.Range{First: cp.Next, Last: cp.Next + 9}
	cp.Next, cp.Ledgers, cp.Events, cp.ByType = r.Last+1, cp.Ledgers+10, cp.Events+10, map[string]int64{
		"fee": cp.Events + 10,
	}
	return f.commit(file, r, cp)
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), lockName) {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	}))
	return names
}

const firstFile, secondFile = "ttp_events-0000000010-0000000019.parquet", "ttp_events-0000000020-0000000029.parquet"

// Wherever a commit breaks off, by an error or a crash, the next sink has a
// folder that is whole: with the file, or without it and anything of it.
func TestACommitBreaksOffAtEveryStep(t *testing.T) {
	defer failpoint.Set(nil)
	for _, at := range failpoint.Steps[1:] {
		t.Run(at, func(t *testing.T) {
			dir := t.TempDir()
			failpoint.Set(nil)
			f := open(t, dir, 10, 99)
			require.NoError(t, add(t, f))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o644))
			failpoint.Set(func(step string) error {
				if step == at {
					return errors.New("the disk is on fire")
				}
				return nil
			})
			require.ErrorContains(t, add(t, f), "the disk is on fire")
			require.NoError(t, f.close())
			failpoint.Set(nil)
			before := listing(t, dir)

			f = open(t, dir, 10, 99)
			want := []string{"checkpoint.json", "notes.txt", firstFile}
			if f.cp.Next == 30 {
				want = append(want, secondFile)
			}
			require.Equal(t, want, listing(t, dir))
			for _, name := range before { // what was visible stays
				if !strings.HasPrefix(name, asideName) {
					require.Contains(t, want, name)
				}
			}
			for f.cp.Next < 50 {
				require.NoError(t, add(t, f))
			}
			cp, err := Open(dir)
			require.NoError(t, err)
			require.Equal(t, f.cp.Files, cp.Files)
		})
	}
}

// A folder of finished files without a checkpoint, or with more files than it
// lists, is not ours to change, and what is no range makes no checkpoint.
func TestNothingIsDeletedThatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{firstFile, secondFile, "ttp_events-other.parquet"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
	}
	before := listing(t, dir)
	for _, want := range []ledgers.Range{{}, {First: 0, Last: 0}, {First: 11, Last: 10}, {First: 10, Last: 10}, {First: 10, Last: 99}} {
		_, err := openFolder(dir, Parquet, want, sample)
		require.Error(t, err, "%v", want)
		require.Equal(t, before, listing(t, dir))
	}
	_, err := openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99}, sample)
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, firstFile+" and 2 more, and no checkpoint; nothing was changed")

	empty := filepath.Join(t.TempDir(), "new")
	_, err = openFolder(empty, Parquet, ledgers.Range{}, sample)
	require.ErrorContains(t, err, "is empty")
	require.NoDirExists(t, empty)

	dir = t.TempDir()
	f := open(t, dir, 10, 99)
	require.NoError(t, add(t, f))
	require.NoError(t, f.close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, secondFile), nil, 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, asideName, "somebody's"), nil, 0o644))
	before = listing(t, dir)
	_, err = openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99}, sample)
	require.ErrorContains(t, err, secondFile+", which its checkpoint does not list")
	require.Equal(t, before, listing(t, dir))
}

// A file that is there already is never replaced.
func TestACommitReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 10, 99)
	require.NoError(t, os.WriteFile(filepath.Join(dir, firstFile), []byte("other"), 0o644))
	require.ErrorIs(t, add(t, f), ErrDamaged)
	text, err := os.ReadFile(filepath.Join(dir, firstFile))
	require.NoError(t, err)
	require.Equal(t, "other", string(text))
}

// Whatever a checkpoint and its files disagree about is named, to sinks and to
// readers.
func TestADamagedFolderIsNamed(t *testing.T) {
	change := func(f func(cp map[string]any)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, checkpointName)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			var cp map[string]any
			require.NoError(t, json.Unmarshal(text, &cp))
			f(cp)
			text, err = json.Marshal(cp)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, text, 0o644))
		}
	}
	write := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		}
	}
	for name, tc := range map[string]struct {
		spoil func(t *testing.T, dir string)
		want  string
	}{
		"next is later":      {change(func(cp map[string]any) { cp["next"] = 33 }), "the next ledger is 33, but the files end before 30"},
		"next is earlier":    {change(func(cp map[string]any) { cp["next"] = 27 }), "the next ledger is 27, but the files end before 30"},
		"next is outside":    {change(func(cp map[string]any) { cp["next"] = 101 }), "does not belong to the range"},
		"events":             {change(func(cp map[string]any) { cp["events"] = 21 }), "21 events counted"},
		"ledgers":            {change(func(cp map[string]any) { cp["ledgers"] = 19 }), "19 ledgers counted"},
		"bytes":              {change(func(cp map[string]any) { cp["bytes"] = 1 }), "1 bytes counted"},
		"a file is unlisted": {change(func(cp map[string]any) { cp["files"] = cp["files"].([]any)[:1] }), "the files end before 20"},
		"a gap":              {change(func(cp map[string]any) { cp["files"] = cp["files"].([]any)[1:] }), "where ledger 10 comes next"},
		"an older form":      {change(func(cp map[string]any) { delete(cp, "version") }), "earlier versions do not list their files"},
		"no checkpoint":      {write(checkpointName, ""), "unexpected end of JSON"},
		"another format":     {change(func(cp map[string]any) { cp["format"] = "xml" }), `format "xml"`},
		"a file is cut":      {write(secondFile, "ten"), secondFile + ": the folder is not what its checkpoint says: 3 bytes, want 11"},
		"a file is changed":  {write(secondFile, "TEN ledgers"), secondFile + ": the folder is not what its checkpoint says: its checksum is another"},
		"a file is missing": {func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, firstFile)))
		}, firstFile},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := open(t, dir, 10, 99)
			require.NoError(t, add(t, f))
			require.NoError(t, add(t, f))
			require.NoError(t, f.close())
			tc.spoil(t, dir)
			before := listing(t, dir)
			_, err := openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99}, sample)
			require.ErrorContains(t, err, tc.want)
			_, err = Open(dir)
			require.ErrorContains(t, err, tc.want)
			require.Equal(t, before, listing(t, dir))
		})
	}
}

func TestOpenFolderRefusesAnotherRun(t *testing.T) {
	dir := t.TempDir()
	f := open(t, dir, 10, 99)
	require.NoError(t, add(t, f))
	require.NoError(t, f.close())
	for want, open := range map[string]func() (*folder, error){
		"from ledger 10, not from 9":          func() (*folder, error) { return openFolder(dir, Parquet, ledgers.Range{First: 9, Last: 99}, sample) },
		"at ledger 20, but the source begins": func() (*folder, error) { return openFolder(dir, Parquet, ledgers.Range{First: 21, Last: 99}, sample) },
		"parquet files, not csv":              func() (*folder, error) { return openFolder(dir, CSV, ledgers.Range{First: 10, Last: 99}, sample) },
		`the network "public", not "testnet"`: func() (*folder, error) {
			return openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99}, events.Origin{Network: "testnet"})
		},
		`the source "sample", not "datalake"`: func() (*folder, error) {
			return openFolder(dir, Parquet, ledgers.Range{First: 10, Last: 99}, events.Origin{Source: "datalake"})
		},
	} {
		_, err := open()
		require.ErrorContains(t, err, want)
	}
	f = open(t, dir, 10, 200)
	require.Equal(t, uint32(20), f.cp.Next, "a run may be made longer")
	require.NoError(t, f.close())
	f = open(t, dir, 15, 18)
	require.Equal(t, ledgers.Range{First: 10, Last: 200}, f.cp.Range, "fewer ledgers than before are not there yet")
}

// FuzzCheckpoint: whatever a checkpoint's text is, it is refused or it agrees
// with itself.
func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"version":2,"range":{"First":10,"Last":99},"next":10,"format":"parquet"}`))
	f.Add([]byte(`{"version":2,"range":{"First":1,"Last":4294967295},"next":4294967295,"format":"csv","files":[{}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		cp, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		next := uint64(cp.Range.First)
		for _, file := range cp.Files {
			require.Equal(t, next, uint64(file.Range.First))
			require.Equal(t, filepath.Base(file.Name), file.Name, "no file outside of the folder")
			next += file.Range.Len()
		}
		require.Equal(t, uint64(cp.Next), next)
	})
}
