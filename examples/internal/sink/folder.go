package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink/failpoint"
)

const (
	asideName   = ".partial" // what is not complete, in a folder of its own
	asidePrefix = "file-"    // of the unfinished output in it
)

// A folder is the output of one run. One sink at a time writes to it, which its
// lock makes sure of.
//
// A commit has one point at which it takes effect, the renaming of the file:
//
//  1. the file, aside, is synced
//  2. the checkpoint that counts it is written aside and synced
//  3. the file gets its name, the folder is synced
//  4. the checkpoint gets its name, the folder is synced
//
// A crash before step 3 leaves what is aside, which is ours and unfinished, and
// is removed. A crash after it leaves a visible file and, aside, the checkpoint
// that counts it, and the next sink finishes the commit. So a file that was
// visible is never removed or replaced.
type folder struct {
	dir  string
	cp   Checkpoint // as on disk
	lock *lock
}

// openFolder opens the folder of a run, new or to be continued, and finishes or
// undoes a commit that a crash cut short. It changes nothing in a folder that
// it cannot prove to be this run's.
func openFolder(dir, format string, want ledgers.Range, from events.Origin) (_ *folder, err error) {
	if want.Len() == 0 {
		return nil, fmt.Errorf("sink: %s: nothing to write: the range %v is empty", dir, want)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, lock.release())
		}
	}()
	f := &folder{dir: dir, lock: lock}
	fresh := false
	f.cp, err = ReadCheckpoint(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fresh = true
		f.cp = Checkpoint{Version: checkpointVersion, Origin: from, Range: want, Next: want.First, Format: format}
	case err != nil:
		return nil, err
	default:
		if err := f.redo(); err != nil {
			return nil, err
		}
		if err := f.extend(format, want, from); err != nil {
			return nil, err
		}
		if err := f.cp.Verify(); err != nil {
			return nil, err
		}
	}
	unlisted, err := f.cp.Unlisted(dir)
	if err != nil {
		return nil, err
	}
	if len(unlisted) > 0 {
		why := "which its checkpoint does not list"
		if fresh {
			why = "and no checkpoint"
		}
		return nil, fmt.Errorf("sink: %s: %w: it holds %s, %s; nothing was changed", dir, ErrDamaged, some(unlisted), why)
	}
	if err := os.MkdirAll(filepath.Join(dir, asideName), 0o777); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if err := f.discard(); err != nil {
		return nil, err
	}
	return f, f.saveCheckpoint(f.cp)
}

// some names the first of many files.
func some(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
}

// extend makes the run of the folder one up to the end of want. A source that
// offers less than before has not come that far yet: the run keeps its end.
func (f *folder) extend(format string, want ledgers.Range, from events.Origin) error {
	cp := &f.cp
	switch {
	case want.First < cp.Range.First:
		return fmt.Errorf(
			"sink: %s holds a run from ledger %d, not from %d: it cannot be continued",
			f.dir,
			cp.Range.First,
			want.First,
		)
	case want.First > cp.Next:
		return fmt.Errorf(
			"sink: %s continues at ledger %d, but the source begins at %d: it cannot be continued",
			f.dir,
			cp.Next,
			want.First,
		)
	case cp.Format != format:
		return fmt.Errorf("sink: %s holds %s files, not %s: it cannot be continued", f.dir, cp.Format, format)
	case differ(cp.Network, from.Network):
		return fmt.Errorf(
			"sink: %s holds ledgers of the network %q, not %q: it cannot be continued",
			f.dir,
			cp.Network,
			from.Network,
		)
	case differ(cp.Source, from.Source):
		return fmt.Errorf(
			"sink: %s holds ledgers of the source %q, not %q: it cannot be continued",
			f.dir,
			cp.Source,
			from.Source,
		)
	}
	cp.Range.Last = max(cp.Range.Last, want.Last)
	if cp.Network == "" {
		cp.Network = from.Network
	}
	if cp.Source == "" {
		cp.Source = from.Source
	}
	return nil
}

// differ says whether two parts of an origin are known and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

// redo finishes a commit whose file has its name already. What lies aside then
// is the checkpoint that follows the one of the folder, and counts that file.
func (f *folder) redo() error {
	aside, err := readCheckpoint(f.dir, filepath.Join(asideName, checkpointName))
	n := len(f.cp.Files)
	if err != nil || len(aside.Files) != n+1 || aside.Range.First != f.cp.Range.First ||
		aside.Files[n].Range.First != f.cp.Next {
		return nil // not complete, or of no commit: its file is aside, too
	}
	added := &aside.Files[n]
	added.Path = filepath.Join(f.dir, added.Name)
	if _, err := os.Lstat(added.Path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i := range aside.Files {
		aside.Files[i].Path = filepath.Join(f.dir, aside.Files[i].Name)
	}
	if err := added.verify(); err != nil {
		return fmt.Errorf("sink: %s: %w: %w", added.Path, ErrDamaged, err)
	}
	if err := syncFolder(f.dir); err != nil {
		return err
	}
	return f.publishCheckpoint(aside)
}

// An output is a file that is being written, aside.
type output struct {
	file  *os.File
	hash  hash.Hash
	bytes int64
}

// Write appends to the file.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.file.Write(p)
	o.hash.Write(p[:n])
	o.bytes += int64(n)
	return n, err
}

// create opens a new file aside.
func (f *folder) create() (*output, error) {
	file, err := os.CreateTemp(filepath.Join(f.dir, asideName), asidePrefix+"*")
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	return &output{file: file, hash: sha256.New()}, nil
}

// commit makes a written file of the ledgers r, and the checkpoint that counts
// it, durable. cp has the counts with the file but does not list it yet.
func (f *folder) commit(o *output, r ledgers.Range, cp Checkpoint) error {
	if err := f.lock.check(); err != nil {
		return err
	}
	added := File{
		Name: fileName(r, cp.Format), Range: r, Rows: cp.Events - f.cp.Events, Bytes: o.bytes,
		SHA256: hex.EncodeToString(o.hash.Sum(nil)), Format: cp.Format,
	}
	added.Path = filepath.Join(f.dir, added.Name)
	cp.Files = append(f.cp.Files[:len(f.cp.Files):len(f.cp.Files)], added)
	cp.Bytes = f.cp.Bytes + o.bytes
	if err := cp.validate(); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if _, err := os.Lstat(added.Path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sink: %s: %w: it is there already", added.Path, errors.Join(ErrDamaged, err))
	}
	err := steps(
		step{failpoint.Sync, func() error {
			// CreateTemp made it readable by its owner alone.
			return errors.Join(o.file.Chmod(0o644), o.file.Sync(), o.file.Close())
		}},
		step{failpoint.Intent, func() error { return f.writeAside(cp) }},
		step{failpoint.Publish, func() error { return os.Rename(o.file.Name(), added.Path) }},
		step{failpoint.SyncFolder, func() error { return syncFolder(f.dir) }},
	)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return f.publishCheckpoint(cp)
}

// A step is one part of a commit, and the failpoint before it.
type step struct {
	name string
	do   func() error
}

func steps(all ...step) error {
	for _, s := range all {
		if err := failpoint.Reach(s.name); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// saveCheckpoint replaces the checkpoint.
func (f *folder) saveCheckpoint(cp Checkpoint) error {
	if err := cp.validate(); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := f.writeAside(cp); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return f.publishCheckpoint(cp)
}

func (f *folder) writeAside(cp Checkpoint) error {
	text, err := json.Marshal(cp)
	if err != nil {
		return err
	}
	file, err := os.Create(f.aside(checkpointName))
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	return errors.Join(err, file.Sync(), file.Close())
}

// publishCheckpoint gives the checkpoint that lies aside its name.
func (f *folder) publishCheckpoint(cp Checkpoint) error {
	err := steps(
		step{
			failpoint.Checkpoint,
			func() error { return os.Rename(f.aside(checkpointName), filepath.Join(f.dir, checkpointName)) },
		},
		step{failpoint.SyncCommitted, func() error { return syncFolder(f.dir) }},
	)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	f.cp = cp
	return nil
}

func (f *folder) aside(name string) string { return filepath.Join(f.dir, asideName, name) }

// syncFolder makes renames in dir durable, where the system lets folders be
// synced.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) &&
		!errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// discard removes what a sink left aside, and nothing that it did not name.
func (f *folder) discard() error {
	entries, err := os.ReadDir(filepath.Join(f.dir, asideName))
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), asidePrefix) && entry.Name() != checkpointName {
			continue
		}
		if err := os.Remove(f.aside(entry.Name())); err != nil {
			return fmt.Errorf("sink: %w", err)
		}
	}
	return nil
}

// close lets other sinks have the folder.
func (f *folder) close() error { return f.lock.release() }
