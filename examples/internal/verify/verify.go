package verify

import (
	"context"
	"fmt"
	"iter"

	"github.com/withobsrvr/sluice/examples/internal/events"
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
}

// Compare reads every file of the run folder and compares it with the SDK over
// the ledgers of r. A nil progress is not called.
func Compare(ctx context.Context, dir string, src ledgers.Source, r ledgers.Range, progress func(ledger uint32)) (Result, error) {
	files, err := sink.Files(dir)
	if err != nil {
		return Result{}, err
	}
	written := newMerge(ctx, files)
	defer written.close()

	result := Result{ByType: map[string]int64{}}
	for want, err := range ahead(ctx, events.Direct(ctx, src, r)) {
		if err != nil {
			return result, fmt.Errorf("verify: %w", err)
		}
		seen := make(map[string]int, len(want.Events))
		for _, e := range want.Events {
			seen[e.ID] = 0
			result.ByType[e.Type]++
		}
		if err := written.ledger(want.Sequence, func(row Row) {
			result.Written++
			n, ok := seen[row.ID]
			switch {
			case !ok:
				result.Unknown++
			case n > 0:
				result.Duplicates++
			}
			if ok {
				seen[row.ID] = n + 1
			}
		}); err != nil {
			return result, err
		}
		for _, n := range seen {
			if n == 0 {
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
