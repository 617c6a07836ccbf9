package onepass_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/onepass"
)

func TestTheFileIsWhatTheSDKSays(t *testing.T) {
	src, err := ledgers.NewSample(20)
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	var want []events.Event
	for out, err := range extract.Direct(t.Context(), src, bounds) {
		require.NoError(t, err)
		want = append(want, out.Events...)
	}
	for _, workers := range []int{1, 4} {
		var written bytes.Buffer
		totals, err := onepass.Run(t.Context(), src, bounds, workers, &written)
		require.NoError(t, err)
		require.Equal(t, onepass.Totals{Ledgers: 20, Transactions: 4120, Events: len(want)}, totals)

		parquet, err := file.NewParquetReader(bytes.NewReader(written.Bytes()))
		require.NoError(t, err)
		reader, err := pqarrow.NewFileReader(parquet, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
		require.NoError(t, err)
		table, err := reader.GetRecordReader(t.Context(), nil, nil)
		require.NoError(t, err)
		var got []events.Event
		for {
			rec, err := table.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			rows, err := events.Decode(rec)
			require.NoError(t, err)
			got = append(got, rows...)
		}
		require.Equal(t, want, got)
	}
}

// broken yields two ledgers and fails.
type broken struct{ ledgers.Source }

var errBroken = errors.New("broken")

func (b broken) Ledgers(ctx context.Context, r ledgers.Range) iter.Seq2[ledgers.Ledger, error] {
	return func(yield func(ledgers.Ledger, error) bool) {
		for l, err := range b.Source.Ledgers(ctx, ledgers.Range{First: r.First, Last: r.First + 1}) {
			if !yield(l, err) {
				return
			}
		}
		yield(ledgers.Ledger{Sequence: r.First + 2}, errBroken)
	}
}

func TestAFailureEndsIt(t *testing.T) {
	src, err := ledgers.NewSample(20)
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	totals, err := onepass.Run(t.Context(), broken{src}, bounds, 2, io.Discard)
	require.ErrorIs(t, err, errBroken)
	require.Equal(t, 2, totals.Ledgers)
}
