package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// Result is what the comparison found.
type Result struct {
	Ledgers      int64            // compared
	Transactions int64            // by the SDK
	Events       int64            // by the SDK
	ByType       map[string]int64 // by the SDK
	Written      int64            // rows read back
	Lost         int64            // events of the SDK that no row has
	Duplicates   int64            // rows past the first with the same id
	Unknown      int64            // rows with an id that the SDK does not know
	Different    int64            // rows of which another column is not what the SDK says
	Examples     []string         // the first few differences, each with its event and column
}

// Good says whether the files are what the SDK finds, to the last column.
func (r *Result) Good() bool { return r.Lost+r.Duplicates+r.Unknown+r.Different == 0 }

// maxExamples bounds what is kept of a file that is wrong throughout.
const maxExamples = 5

// Compare verifies the run folder against its checkpoint, reads every file that
// it lists, and compares all columns with the SDK over the ledgers of r. A nil
// progress is not called.
func Compare(
	ctx context.Context,
	dir string,
	src ledgers.Source,
	r ledgers.Range,
	progress func(ledger uint32),
) (Result, error) {
	cp, err := sink.Open(dir)
	if err != nil {
		return Result{}, err
	}
	return CompareFiles(ctx, cp.Files, src, r, progress)
}

// CompareFiles is Compare for files that are known to be whole.
func CompareFiles(
	ctx context.Context,
	files []sink.File,
	src ledgers.Source,
	r ledgers.Range,
	progress func(ledger uint32),
) (Result, error) {
	written := newMerge(ctx, files)
	defer written.close()

	result := Result{ByType: map[string]int64{}}
	for want, err := range ahead(ctx, extract.Direct(ctx, src, r)) {
		if err != nil {
			return result, fmt.Errorf("verify: %w", err)
		}
		byID := make(map[string]*expected, len(want.Events))
		for i := range want.Events {
			e := &want.Events[i]
			byID[e.ID] = &expected{event: e}
			result.ByType[e.Type]++
		}
		if err := written.ledger(want.Sequence, func(row events.Event) { result.row(row, byID[row.ID]) }); err != nil {
			return result, err
		}
		for _, e := range byID {
			if e.rows == 0 {
				result.Lost++
			}
		}
		result.Ledgers++
		result.Transactions += int64(want.Transactions)
		result.Events += int64(len(want.Events))
		if progress != nil {
			progress(want.Sequence)
		}
	}
	rest, err := written.rest()
	result.Written += rest
	result.Unknown += rest
	return result, err
}

// expected is an event of the SDK and how many rows have its id.
type expected struct {
	event *events.Event
	rows  int
}

// row counts one row, of the event want or of none.
func (r *Result) row(got events.Event, want *expected) {
	r.Written++
	if want == nil {
		r.Unknown++
		return
	}
	want.rows++
	if want.rows > 1 {
		r.Duplicates++
	}
	a, b := got, *want.event
	a.ClosedAt, b.ClosedAt = a.ClosedAt.UTC(), b.ClosedAt.UTC()
	if a == b {
		return
	}
	r.Different++
	if len(r.Examples) < maxExamples {
		r.Examples = append(r.Examples, difference(a, b))
	}
}

// difference names the columns of which got is not want.
func difference(got, want events.Event) string {
	var text strings.Builder
	text.WriteString("event " + want.ID)
	have, should := columns(got), columns(want)
	for _, field := range events.Schema.Fields() {
		if a, b := have[field.Name], should[field.Name]; a != b {
			fmt.Fprintf(&text, ", %s is %.80q, want %.80q", field.Name, a, b)
		}
	}
	return text.String()
}

// columns are the fields of an event by the names of their columns.
func columns(e events.Event) map[string]string {
	var values map[string]json.RawMessage
	text, err := json.Marshal(e)
	if err == nil {
		err = json.Unmarshal(text, &values)
	}
	if err != nil {
		panic("verify: " + err.Error()) // numbers, texts and a time: cannot fail
	}
	out := make(map[string]string, len(values))
	for name, value := range values {
		out[name] = string(value)
	}
	return out
}

// ahead runs in on a goroutine of its own, a few steps ahead: the SDK's work
// and the reading of files overlap.
func ahead(ctx context.Context, in iter.Seq2[events.Extracted, error]) iter.Seq2[events.Extracted, error] {
	type step struct {
		value events.Extracted
		err   error
	}
	return func(yield func(events.Extracted, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		steps := make(chan step, 4)
		go func() {
			defer close(steps)
			for value, err := range in {
				select {
				case steps <- step{value, err}:
				case <-ctx.Done():
					return
				}
			}
		}()
		defer func() {
			cancel()
			for range steps { // the goroutine ends with its channel
			}
		}()
		for s := range steps {
			if !yield(s.value, s.err) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(events.Extracted{}, err)
		}
	}
}
