package extract_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// What one ledger costs a worker of the processor.
func BenchmarkExtract(b *testing.B) {
	src, err := ledgers.NewSample(2)
	require.NoError(b, err)
	x := extract.New(src.Info().Passphrase)
	for l, err := range src.Ledgers(b.Context(), ledgers.Range{
		First: ledgers.SampleFirst,
		Last:  ledgers.SampleFirst + 1,
	}) {
		require.NoError(b, err)
		raw := bytes.Clone(l.Raw)
		b.Run(fmt.Sprintf("bytes=%d", len(raw)), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			count := 0
			for b.Loop() {
				out, err := x.Extract(l.Sequence, raw)
				if err != nil {
					b.Fatal(err)
				}
				count += len(out.Events)
			}
			b.ReportMetric(float64(count)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
