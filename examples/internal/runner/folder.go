package runner

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/sink"
)

const runPrefix = "run-"

// newRun makes the folder of a new run below out, named after now. A run of
// the same second gets a number.
func newRun(out string, now time.Time) (string, error) {
	if err := os.MkdirAll(out, 0o777); err != nil {
		return "", err
	}
	name := filepath.Join(out, runPrefix+now.UTC().Format("20060102-150405"))
	for n := 1; ; n++ {
		dir := name
		if n > 1 {
			dir = fmt.Sprintf("%s-%02d", name, n)
		}
		err := os.Mkdir(dir, 0o777)
		if err == nil || !errors.Is(err, fs.ErrExist) {
			return dir, err
		}
	}
}

// findRun returns the run folder that resume names and its checkpoint.
func findRun(out, resume string) (string, sink.Checkpoint, error) {
	dir := resume
	if resume == LastRun {
		entries, err := os.ReadDir(out)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", sink.Checkpoint{}, err
		}
		entries = slices.DeleteFunc(
			entries,
			func(e fs.DirEntry) bool { return !e.IsDir() || !strings.HasPrefix(e.Name(), runPrefix) },
		)
		if len(entries) == 0 {
			return "", sink.Checkpoint{}, fmt.Errorf("-resume: there is no run below %s", out)
		}
		dir = filepath.Join(out, entries[len(entries)-1].Name())
	}
	cp, err := sink.ReadCheckpoint(dir)
	if _, statErr := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && statErr == nil {
		held, err := new(sink.Checkpoint).Unlisted(dir)
		if err == nil && len(held) > 0 {
			err = fmt.Errorf("-resume: %s cannot be continued: it holds %d files and no checkpoint", dir, len(held))
		}
		return dir, sink.Checkpoint{}, err // otherwise it was stopped before its sink was up
	}
	if err != nil {
		return "", cp, fmt.Errorf("-resume: %s cannot be continued: %w", dir, err)
	}
	return dir, cp, nil
}

// lookupIn reads variables from a list of NAME=VALUE, the last of a name
// winning, as in a process.
func lookupIn(env []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, pair := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}
