package source

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/ledgerstest"
)

// Bytes from outside never end the process, and an error names the ledger.
func FuzzHeader(f *testing.F) {
	var raw []byte
	for l, err := range ledgerstest.Sample(f, 1).Ledgers(f.Context(), ledgers.Range{
		First: ledgers.SampleFirst,
		Last:  ledgers.SampleFirst,
	}) {
		require.NoError(f, err)
		raw = bytes.Clone(l.Raw)
	}
	f.Add(uint32(0), []byte{}, uint32(len(raw)))
	f.Add(uint32(3), []byte{2}, uint32(len(raw)))
	f.Add(uint32(200), []byte{0xff, 0xff}, uint32(1000))
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, size uint32) {
		mutated := bytes.Clone(raw[:min(int(size), len(raw))])
		if len(mutated) > 0 {
			copy(mutated[int(at)%len(mutated):], patch)
		}
		h, err := readHeader(ledgers.Ledger{Sequence: ledgers.SampleFirst, Raw: mutated})
		if err != nil {
			require.ErrorIs(t, err, ledgers.ErrCorrupt)
			require.ErrorContains(t, err, "ledger 53312000")
			require.Zero(t, h)
		}
	})
}
