package sink

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	lockName   = ".lock"
	holderName = ".lock.json" // beside the lock: where locks are mandatory, a locked file cannot be read
)

// ErrLocked is what every [*LockedError] matches.
var ErrLocked = errors.New("the folder belongs to another sink")

// A Holder is the process that writes to a folder.
type Holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	Token string    `json:"token"` // of this one lock
}

// A LockedError says who writes to a folder. Holder is the zero value where
// that could not be read.
type LockedError struct {
	Dir    string
	Holder Holder
}

// Error names the holder.
func (e *LockedError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("sink: %s: %v, which did not leave its name", e.Dir, ErrLocked)
	}
	return fmt.Sprintf("sink: %s: %v: process %d on %s holds it since %s",
		e.Dir, ErrLocked, e.Holder.PID, e.Holder.Host, e.Holder.Since.Format(time.RFC3339))
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }

// A lock makes one sink the only writer of a folder. The system gives it up
// when the process ends, however that happens. The file stays: removing it
// would let two processes lock two files of the same name.
type lock struct {
	dir    string
	file   *flock.Flock
	holder Holder
}

// lockFolder takes the lock of dir, which exists, or returns a *LockedError.
func lockFolder(dir string) (*lock, error) {
	l := &lock{dir: dir, file: flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o644))}
	locked, err := l.file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("sink: lock %s: %w", dir, err)
	}
	if !locked {
		holder, _ := readHolder(dir) // it may not have written its name yet
		return nil, &LockedError{dir, holder}
	}
	host, _ := os.Hostname()
	l.holder = Holder{PID: os.Getpid(), Host: host, Since: time.Now().UTC().Truncate(time.Second), Token: rand.Text()}
	text, err := json.Marshal(l.holder)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, holderName), append(text, '\n'), 0o644)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sink: lock %s: %w", dir, err), l.file.Close())
	}
	return l, nil
}

func readHolder(dir string) (h Holder, err error) {
	text, err := os.ReadFile(filepath.Join(dir, holderName))
	if err == nil {
		err = json.Unmarshal(text, &h)
	}
	return h, err
}

// check proves that the lock is still ours: the folder may have been removed,
// or the lock file with it, and locked anew by another process.
func (l *lock) check() error {
	holder, err := readHolder(l.dir)
	if err != nil {
		return fmt.Errorf("sink: %s: the lock is gone: %w", l.dir, err)
	}
	if holder.Token != l.holder.Token {
		return &LockedError{l.dir, holder}
	}
	return nil
}

func (l *lock) release() error { return l.file.Close() }
