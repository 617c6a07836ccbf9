// Package deadletter sets ledgers aside that cannot be used, instead of ending a
// run at them: what is known of each goes to a folder, and the pipeline goes on as
// if the ledger had no events.
//
//	ledger-0053312003.json   which ledger, why, and when
//	ledger-0053312003.xdr    its bytes, where they could be read
//
// # Concurrency
//
// A [Folder] and a [Source] are safe for concurrent use.
//
// # Errors
//
// After [MaxLedgers] ledgers the next one ends the run: what fails everywhere, such
// as a wrong passphrase, is no poisoned ledger.
//
// # Testing
//
// A folder is a folder: give it t.TempDir().
package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// MaxLedgers is how many different ledgers a process sets aside.
const MaxLedgers = 100

// A Folder is where poisoned ledgers go.
type Folder struct {
	dir string
	log *slog.Logger

	mu   sync.Mutex
	seen map[uint32]bool // guarded by mu, as are the files
}

// Open returns the folder dir, and makes it. Log gets one line for each ledger;
// nil discards.
func Open(dir string, log *slog.Logger) (*Folder, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Folder{dir: dir, log: log, seen: map[uint32]bool{}}, os.MkdirAll(dir, 0o755)
}

// Count is how many ledgers were set aside by this process.
func (f *Folder) Count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.seen))
}

// A Letter is what the folder says of a ledger.
type Letter struct {
	Ledger uint32    `json:"ledger"`
	Cause  string    `json:"cause"`
	Bytes  int       `json:"bytes"` // of its XDR, 0 where that could not be read
	At     time.Time `json:"at"`
}

// SetAside puts a ledger into the folder: raw is its XDR, or nothing, and cause is
// what is wrong with it. It returns an error that matches cause when the folder
// takes no more or cannot be written. A ledger that was set aside by another
// process, such as the source before the processor, keeps what that one said.
func (f *Folder) SetAside(ledger uint32, raw []byte, cause error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[ledger] {
		return nil
	}
	if len(f.seen) == MaxLedgers {
		return fmt.Errorf("%w; %d ledgers were set aside before it, and no more are", cause, MaxLedgers)
	}
	name := filepath.Join(f.dir, fmt.Sprintf("ledger-%010d", ledger))
	if _, err := os.Stat(name + ".json"); err != nil {
		text, err := json.MarshalIndent(Letter{ledger, cause.Error(), len(raw), time.Now().UTC()}, "", "  ")
		if err == nil && len(raw) > 0 {
			err = write(name+".xdr", raw)
		}
		if err == nil {
			err = write(name+".json", append(text, '\n'))
		}
		if err != nil {
			return fmt.Errorf("%w; it could not be set aside: %w", cause, err)
		}
	}
	f.seen[ledger] = true
	f.log.Error("a ledger was set aside: its events are missing", "ledger", ledger, "cause", cause, "file", name+".json")
	return nil
}

// write replaces a file at once.
func write(name string, content []byte) error {
	if err := os.WriteFile(name+".partial", content, 0o644); err != nil {
		return err
	}
	return os.Rename(name+".partial", name)
}

// A Source sets aside the ledgers that an inner source names as corrupt.
type Source struct {
	ledgers.Source
	*Folder
}

// Ledgers yields those of the inner source. One that is corrupt is set aside and
// comes without its bytes.
func (s Source) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		for rest := r; ; {
			bad, err := s.until(ctx, rest, yield)
			if bad == 0 {
				return
			}
			if err = s.SetAside(bad, nil, err); !yield(ledgers.Ledger{Sequence: bad, SetAside: true}, err) || err != nil ||
				bad == r.Last {
				return
			}
			rest.First = bad + 1
		}
	}
}

// until yields ledgers up to a corrupt one, which it returns, or to the end.
func (s Source) until(ctx context.Context, r ledgers.Range, yield func(ledgers.Ledger, error) bool) (bad uint32,
	cause error,
) {
	for l, err := range s.Source.Ledgers(ctx, r) {
		if e, ok := errors.AsType[*ledgers.Error](err); ok && errors.Is(err, ledgers.ErrCorrupt) &&
			r.Contains(ledgers.Range{First: e.Sequence, Last: e.Sequence}) {
			return e.Sequence, err
		}
		if !yield(l, err) || err != nil {
			return 0, nil
		}
	}
	return 0, nil
}
