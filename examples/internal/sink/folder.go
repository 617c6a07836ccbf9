package sink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

const (
	checkpointName = "checkpoint.json"
	asideName      = ".partial" // files that are not complete, in a folder of their own
	filePrefix     = "ttp_events-"
)

// Checkpoint is what a run folder holds for certain: the files of all ledgers
// before Next, and their totals. It is replaced as a whole, after the file that
// it counts became durable.
type Checkpoint struct {
	Range        ledgers.Range    `json:"range"` // what the run was asked for
	Next         uint32           `json:"next"`  // the first ledger that is not on disk
	Format       string           `json:"format"`
	Ledgers      int64            `json:"ledgers"`
	Transactions int64            `json:"transactions"`
	Events       int64            `json:"events"`
	ByType       map[string]int64 `json:"events_by_type"`
	Files        int              `json:"files"`
	Bytes        int64            `json:"bytes"`
	Totals       []Total          `json:"totals"`
}

// Done says whether every ledger of the range is on disk.
func (c *Checkpoint) Done() bool { return c.Next > c.Range.Last }

// ReadCheckpoint reads the checkpoint of a run folder. A folder without one is
// an error that matches [fs.ErrNotExist].
func ReadCheckpoint(dir string) (Checkpoint, error) {
	path := filepath.Join(dir, checkpointName)
	text, err := os.ReadFile(path)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sink: %w", err)
	}
	var c Checkpoint
	if err := json.Unmarshal(text, &c); err != nil {
		return Checkpoint{}, fmt.Errorf("sink: %s: %w", path, err)
	}
	if c.Range.First == 0 || c.Range.Len() == 0 || c.Next < c.Range.First || uint64(c.Next) > uint64(c.Range.Last)+1 {
		return Checkpoint{}, fmt.Errorf("sink: %s: next ledger %d does not belong to the range %v", path, c.Next, c.Range)
	}
	return c, nil
}

// LastDurable says when the checkpoint of a run folder was replaced last.
func LastDurable(dir string) (time.Time, error) {
	info, err := os.Stat(filepath.Join(dir, checkpointName))
	if err != nil {
		return time.Time{}, fmt.Errorf("sink: %w", err)
	}
	return info.ModTime(), nil
}

// A File is one complete output file.
type File struct {
	Path   string
	Range  ledgers.Range
	Format string
}

// Files lists the complete output files of a run folder, in ledger order.
func Files(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir) // sorted by name, and names are padded
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	var files []File
	for _, entry := range entries {
		if r, format, ok := parseFileName(entry.Name()); ok && entry.Type().IsRegular() {
			files = append(files, File{filepath.Join(dir, entry.Name()), r, format})
		}
	}
	return files, nil
}

func fileName(r ledgers.Range, format string) string {
	return fmt.Sprintf("%s%010d-%010d.%s", filePrefix, r.First, r.Last, format)
}

func parseFileName(name string) (r ledgers.Range, format string, ok bool) {
	rest, isOurs := strings.CutPrefix(name, filePrefix)
	numbers, format, hasFormat := strings.Cut(rest, ".")
	if n, err := fmt.Sscanf(numbers, "%d-%d", &r.First, &r.Last); !isOurs || !hasFormat || n != 2 || err != nil {
		return ledgers.Range{}, "", false
	}
	return r, format, fileName(r, format) == name
}

// A folder is the output of one run. One sink at a time writes to it, which its
// lock makes sure of.
type folder struct {
	dir  string
	cp   Checkpoint // as on disk
	lock *lock
}

// close lets other sinks have the folder.
func (f *folder) close() error { return f.lock.release() }

// openFolder opens the folder of a run, new or to be continued, and removes
// what a crash left behind: files written aside, and complete files that no
// checkpoint counts, whose ledgers are asked for again.
func openFolder(dir, format string, want ledgers.Range) (_ *folder, err error) {
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
	aside := filepath.Join(dir, asideName)
	if err := os.RemoveAll(aside); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	if err := os.MkdirAll(aside, 0o777); err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	cp, err := ReadCheckpoint(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		cp = Checkpoint{Range: want, Next: want.First, Format: format}
	case err != nil:
		return nil, err
	case cp.Range.First != want.First:
		return nil, fmt.Errorf("sink: %s holds a run from ledger %d, not from %d: it cannot be continued", dir, cp.Range.First, want.First)
	case cp.Format != format:
		return nil, fmt.Errorf("sink: %s holds %s files, not %s: it cannot be continued", dir, cp.Format, format)
	case want.Last < cp.Next-1:
		return nil, fmt.Errorf("sink: %s already holds ledgers up to %d, past %d", dir, cp.Next-1, want.Last)
	default:
		cp.Range = want // a longer run goes on where the shorter one ended
	}
	f := &folder{dir, cp, lock}
	files, err := Files(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if file.Range.First >= cp.Next {
			if err := os.Remove(file.Path); err != nil {
				return nil, fmt.Errorf("sink: %w", err)
			}
		}
	}
	return f, f.saveCheckpoint(cp)
}

// create opens a new file aside.
func (f *folder) create() (*os.File, error) {
	file, err := os.CreateTemp(filepath.Join(f.dir, asideName), "file-*")
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	return file, nil
}

// commit makes a written file and its checkpoint durable: the file appears
// under its name only when it is complete, and counts only when it is durable.
// A crash in between leaves a file that no checkpoint counts; openFolder
// removes it.
func (f *folder) commit(file *os.File, r ledgers.Range, cp Checkpoint) error {
	if err := f.lock.check(); err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	// CreateTemp made it readable by its owner alone.
	if err := file.Chmod(0o644); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := os.Rename(file.Name(), filepath.Join(f.dir, fileName(r, cp.Format))); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := syncFolder(f.dir); err != nil {
		return err
	}
	cp.Files++
	cp.Bytes += info.Size()
	return f.saveCheckpoint(cp)
}

func (f *folder) saveCheckpoint(cp Checkpoint) error {
	text, err := json.Marshal(cp)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	aside := filepath.Join(f.dir, asideName, checkpointName)
	if err := writeSynced(aside, append(text, '\n')); err != nil {
		return err
	}
	if err := os.Rename(aside, filepath.Join(f.dir, checkpointName)); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	if err := syncFolder(f.dir); err != nil {
		return err
	}
	f.cp = cp
	return nil
}

func writeSynced(path string, text []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// syncFolder makes renames in dir durable, where the system lets folders be
// synced.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("sink: %w", err)
	}
	return nil
}

// discard removes everything aside.
func (f *folder) discard() error {
	entries, err := os.ReadDir(filepath.Join(f.dir, asideName))
	if err != nil {
		return fmt.Errorf("sink: %w", err)
	}
	for _, entry := range entries {
		if err := os.Remove(filepath.Join(f.dir, asideName, entry.Name())); err != nil {
			return fmt.Errorf("sink: %w", err)
		}
	}
	return nil
}
