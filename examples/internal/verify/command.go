package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// Run compares a run folder with the ledgers that its checkpoint names, and
// says on out what it found. open gets an environment that says which these
// are; where they come from, lookup says, as it does to a source. The error of
// a folder that is right but not finished has the status of
// [component.ExitIncomplete].
func Run(
	ctx context.Context,
	dir string,
	lookup func(string) (string, bool),
	open func(context.Context, func(string) (string, bool)) (ledgers.Source, error),
	out io.Writer,
) error {
	cp, err := sink.Open(dir)
	if err != nil {
		return err
	}
	held := ledgers.Range{First: cp.Range.First, Last: cp.Next - 1}
	result := Result{ByType: map[string]int64{}}
	if held.Len() > 0 {
		src, err := open(ctx, environmentOf(cp, held, lookup))
		if err != nil {
			return err
		}
		if result, err = CompareFiles(ctx, cp.Files, src, held, nil); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "%s: %d ledgers, %d events in %d files: %d lost, %d duplicates, %d unknown, %d different\n",
		dir, result.Ledgers, result.Written, len(cp.Files), result.Lost, result.Duplicates, result.Unknown, result.Different)
	for _, example := range result.Examples {
		fmt.Fprintln(out, " ", example)
	}
	switch {
	case !result.Good():
		return errors.New("the files are not what the SDK finds")
	case result.Events != cp.Events || result.Transactions != cp.Transactions:
		return fmt.Errorf(
			"the checkpoint counts %d events of %d transactions, the SDK finds %d of %d",
			cp.Events,
			cp.Transactions,
			result.Events,
			result.Transactions,
		)
	case !cp.Done():
		return &component.StatusError{
			Status: component.ExitIncomplete,
			Err:    fmt.Errorf("what is there is right, but the run ended with %d of %d ledgers", cp.Ledgers, cp.Range.Len()),
		}
	}
	return nil
}

// environmentOf is lookup with what the checkpoint knows.
func environmentOf(
	cp sink.Checkpoint,
	held ledgers.Range,
	lookup func(string) (string, bool),
) func(string) (string, bool) {
	known := map[string]string{"LEDGER_SOURCE": cp.Source, "NETWORK_PASSPHRASE": cp.Network}
	if cp.Source == "sample" {
		known["LEDGER_COUNT"] = strconv.FormatUint(held.Len(), 10)
	} else {
		known["START_LEDGER"], known["END_LEDGER"] = fmt.Sprint(held.First), fmt.Sprint(held.Last)
	}
	return func(name string) (string, bool) {
		if value := known[name]; value != "" {
			return value, true
		}
		if name == "LEDGER_COUNT" {
			return "", false
		}
		return lookup(name)
	}
}
