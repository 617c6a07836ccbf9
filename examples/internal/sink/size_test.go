package sink_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// A file ends at its size, whatever the stage may hold. A sink that is stopped at
// once repeats at most the one file that it had not finished.
func TestFilesHaveTheirSizeAndACrashRepeatsOne(t *testing.T) {
	const last = first + 299
	errCrash := errors.New("the machine is switched off")
	ctx, crash := context.WithCancelCause(t.Context())
	defer crash(nil)
	var began atomic.Uint32 // the first ledger of a run
	p := &fakeProcessor{
		batchRows: 50,
		rows:      func(uint32) int { return 100 },
		before: func(_ context.Context, info events.BatchInfo) error {
			began.CompareAndSwap(0, info.Ledger)
			if info.Ledger == first+200 {
				crash(errCrash)
			}
			return nil
		},
	}
	cfg := config(t, p, last)
	cfg.Format, cfg.FileBytes = sink.JSONL, 1<<20
	cfg.Throttler = gate(t, 4)

	s, err := sink.New(cfg)
	require.NoError(t, err)
	require.ErrorIs(t, s.Run(ctx, nil), errCrash)
	require.NoError(t, s.Close())
	before, err := sink.Open(cfg.Dir)
	require.NoError(t, err)
	require.NotEmpty(t, before.Files)

	began.Store(0)
	_, err = run(t, cfg)
	require.NoError(t, err)
	require.Equal(t, before.Next, began.Load(), "what is durable is not asked for again")
	requireWhole(t, p, cfg.Dir, last)
	after, err := sink.Open(cfg.Dir)
	require.NoError(t, err)
	require.Equal(t, before.Files, after.Files[:len(before.Files)], "and not written again")
	require.Greater(t, len(after.Files), 4)
	for i, f := range after.Files {
		if i == len(after.Files)-1 {
			continue
		}
		require.GreaterOrEqual(t, f.Bytes, cfg.FileBytes)
		require.Less(t, f.Bytes, cfg.FileBytes+1<<18, "by no more than a buffer and a ledger")
	}
	// What had been sent when the sink crashed, and is not in these files, is less
	// than one file and what its stage and the transport held.
	perLedger := after.Bytes / after.Ledgers
	require.Less(t, int64(first+200-before.Next)*perLedger, cfg.FileBytes+1<<19)
}
