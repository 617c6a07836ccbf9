package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

const (
	checkpointName = "checkpoint.json"
	// checkpointVersion is the form of the checkpoint. Version 1, which had no
	// number, did not list its files.
	checkpointVersion = 2
	filePrefix        = "ttp_events-"
)

// ErrDamaged means that a folder is not what its checkpoint says.
var ErrDamaged = errors.New("the folder is not what its checkpoint says")

// Checkpoint is what a run folder holds for certain: a manifest of the files of
// all ledgers before Next, and their totals. It is replaced as a whole, with
// each file that is added. What it does not list does not count.
type Checkpoint struct {
	Version int `json:"version"`
	events.Origin
	Range        ledgers.Range    `json:"range"` // what the run was asked for
	Next         uint32           `json:"next"`  // the first ledger that is not on disk
	Format       string           `json:"format"`
	Ledgers      int64            `json:"ledgers"`
	Transactions int64            `json:"transactions"`
	Events       int64            `json:"events"`
	ByType       map[string]int64 `json:"events_by_type"`
	Bytes        int64            `json:"bytes"`
	Files        []File           `json:"files"`
	Totals       []Total          `json:"totals"`
}

// A File is one complete output file.
type File struct {
	Name   string        `json:"name"`
	Range  ledgers.Range `json:"range"`
	Rows   int64         `json:"rows"`
	Bytes  int64         `json:"bytes"`
	SHA256 string        `json:"sha256"` // hexadecimal

	Path   string `json:"-"`
	Format string `json:"-"`
}

// Done says whether every ledger of the range is on disk.
func (c *Checkpoint) Done() bool { return c.Next > c.Range.Last }

// ReadCheckpoint reads the checkpoint of a run folder and proves that it agrees
// with itself; Verify proves that the files agree with it. A folder without
// one is an error that matches [fs.ErrNotExist].
func ReadCheckpoint(dir string) (Checkpoint, error) { return readCheckpoint(dir, checkpointName) }

func readCheckpoint(dir, name string) (Checkpoint, error) {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sink: %w", err)
	}
	c, err := parseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sink: %s: %w", path, err)
	}
	for i := range c.Files {
		c.Files[i].Path, c.Files[i].Format = filepath.Join(dir, c.Files[i].Name), c.Format
	}
	return c, nil
}

func parseCheckpoint(text []byte) (c Checkpoint, err error) {
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	if c.Version != checkpointVersion {
		return c, fmt.Errorf(
			"version %d, want %d: earlier versions do not list their files and cannot be continued; start a new folder",
			c.Version,
			checkpointVersion,
		)
	}
	return c, c.validate()
}

// validate proves that the parts of c agree with each other.
func (c *Checkpoint) validate() error {
	if c.Range.Len() == 0 || c.Next < c.Range.First || uint64(c.Next) > uint64(c.Range.Last)+1 {
		return fmt.Errorf("%w: next ledger %d does not belong to the range %v", ErrDamaged, c.Next, c.Range)
	}
	if !slices.Contains(Formats, c.Format) {
		return fmt.Errorf("%w: format %q, want one of %v", ErrDamaged, c.Format, Formats)
	}
	next, rows, bytes, byType := uint64(c.Range.First), int64(0), int64(0), int64(0)
	for _, f := range c.Files {
		if uint64(f.Range.First) != next || f.Range.Len() == 0 || f.Name != fileName(f.Range, c.Format) || f.Rows < 0 ||
			f.Bytes < 0 ||
			len(f.SHA256) != 2*sha256.Size {
			return fmt.Errorf("%w: file %q of ledgers %v where ledger %d comes next", ErrDamaged, f.Name, f.Range, next)
		}
		next = uint64(f.Range.Last) + 1
		rows, bytes = rows+f.Rows, bytes+f.Bytes
	}
	for _, n := range c.ByType {
		byType += n
	}
	switch {
	case next != uint64(c.Next):
		return fmt.Errorf("%w: the next ledger is %d, but the files end before %d", ErrDamaged, c.Next, next)
	case c.Ledgers != int64(c.Next)-int64(c.Range.First):
		return fmt.Errorf("%w: %d ledgers counted, %d listed", ErrDamaged, c.Ledgers, c.Next-c.Range.First)
	case rows != c.Events || byType != c.Events:
		return fmt.Errorf("%w: %d events counted, %d by type, %d in the files", ErrDamaged, c.Events, byType, rows)
	case bytes != c.Bytes:
		return fmt.Errorf("%w: %d bytes counted, %d in the files", ErrDamaged, c.Bytes, bytes)
	}
	return nil
}

// Verify reads every file that c lists and compares its size and checksum. It
// names each file that is missing, cut short or changed.
func (c *Checkpoint) Verify() error {
	var errs []error
	for _, f := range c.Files {
		if err := f.verify(); err != nil {
			errs = append(errs, fmt.Errorf("sink: %s: %w: %w", f.Path, ErrDamaged, err))
		}
	}
	return errors.Join(errs...)
}

func (f *File) verify() error {
	in, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	hash := sha256.New()
	n, err := io.Copy(hash, in)
	switch {
	case err != nil:
		return err
	case n != f.Bytes:
		return fmt.Errorf("%d bytes, want %d", n, f.Bytes)
	case hex.EncodeToString(hash.Sum(nil)) != f.SHA256:
		return errors.New("its checksum is another")
	}
	return nil
}

// Open reads the checkpoint of a run folder and verifies its files: what a
// program that reads the data does first.
func Open(dir string) (Checkpoint, error) {
	c, err := ReadCheckpoint(dir)
	if err != nil {
		return c, err
	}
	return c, c.Verify()
}

// LastDurable says when the checkpoint of a run folder was replaced last.
func LastDurable(dir string) (time.Time, error) {
	info, err := os.Stat(filepath.Join(dir, checkpointName))
	if err != nil {
		return time.Time{}, fmt.Errorf("sink: %w", err)
	}
	return info.ModTime(), nil
}

// Files lists the output files of a run folder that its checkpoint counts, in
// ledger order.
func Files(dir string) ([]File, error) {
	c, err := ReadCheckpoint(dir)
	return c.Files, err
}

// Unlisted names the files of a run folder that look like output but that the
// checkpoint does not list.
func (c *Checkpoint) Unlisted(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("sink: %w", err)
	}
	for _, entry := range entries {
		listed := slices.ContainsFunc(c.Files, func(f File) bool { return f.Name == entry.Name() })
		if isOutput(entry.Name()) && !listed {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func fileName(r ledgers.Range, format string) string {
	return fmt.Sprintf("%s%010d-%010d.%s", filePrefix, r.First, r.Last, format)
}

// isOutput says whether name could be that of an output file. It is generous:
// what it recognizes is protected.
func isOutput(name string) bool { return strings.HasPrefix(name, filePrefix) }
