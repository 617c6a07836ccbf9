package ledgers_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stellar/go-stellar-sdk/ingest"
	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func TestSampleReplaysBothLedgersInTurn(t *testing.T) {
	src, err := ledgers.NewSample(5)
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, ledgers.Range{First: 53312000, Last: 53312004}, bounds)

	want := uint32(53312000)
	for l, err := range src.Ledgers(t.Context(), bounds) {
		require.NoError(t, err)
		require.Equal(t, want, l.Sequence)

		var lcm xdr.LedgerCloseMeta
		require.NoError(t, xdr.SafeUnmarshal(l.Raw, &lcm))
		require.Equal(t, want, lcm.LedgerSequence())
		reader, err := ingest.NewLedgerTransactionReaderFromLedgerCloseMeta(src.Info().Passphrase, lcm)
		require.NoError(t, err)
		require.Equal(t, want, reader.GetSequence())
		txs := 0
		for {
			tx, err := reader.Read()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			require.Equal(t, want, tx.Ledger.LedgerSequence())
			txs++
		}
		require.Equal(t, []int{163, 249}[(want-53312000)%2], txs)
		want++
	}
	require.Equal(t, uint32(53312005), want)
}

// The shipped bytes are the SDK's test data and nothing else.
func TestSampleIsWhatTheSDKCarries(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}",
		"github.com/stellar/go-stellar-sdk").Output()
	require.NoError(t, err)
	sdk := strings.TrimSpace(string(out))

	packed, err := os.ReadFile(filepath.Join(sdk, "support/compressxdr/testdata/FCD285FF--53312000.xdr.zstd"))
	require.NoError(t, err)
	zr, err := zstd.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	defer zr.Close()
	raw, err := io.ReadAll(zr)
	require.NoError(t, err)
	var batch xdr.LedgerCloseMetaBatch
	require.NoError(t, xdr.SafeUnmarshal(raw, &batch))
	first := batch.LedgerCloseMetas[0]
	var second xdr.LedgerCloseMeta
	raw, err = os.ReadFile(filepath.Join(sdk, "xdr/testdata/ledger_58752000.bin"))
	require.NoError(t, err)
	require.NoError(t, xdr.SafeUnmarshal(raw, &second))

	src, err := ledgers.NewSample(2)
	require.NoError(t, err)
	for l, err := range src.Ledgers(t.Context(), ledgers.Range{First: 53312000, Last: 53312001}) {
		require.NoError(t, err)
		var lcm xdr.LedgerCloseMeta
		require.NoError(t, xdr.SafeUnmarshal(l.Raw, &lcm))
		want := first
		if l.Sequence != 53312000 {
			want = second
		}
		// The only differences: its place in the chain.
		header, original := &lcm.V1.LedgerHeader, want.V1.LedgerHeader
		header.Hash, header.Header.PreviousLedgerHash = original.Hash, original.Header.PreviousLedgerHash
		header.Header.LedgerSeq = original.Header.LedgerSeq
		require.Equal(t, want, lcm)
	}
}

func TestSampleStreamsAreIndependent(t *testing.T) {
	src, err := ledgers.NewSample(10)
	require.NoError(t, err)
	all := ledgers.Range{First: 53312000, Last: 53312009}
	for outer, err := range src.Ledgers(t.Context(), all) {
		require.NoError(t, err)
		for inner, err := range src.Ledgers(t.Context(), all) {
			require.NoError(t, err)
			require.Equal(t, inner.Sequence, headerSequence(t, inner.Raw))
		}
		require.Equal(t, outer.Sequence, headerSequence(t, outer.Raw))
	}
}

func TestSampleRefusesWhatItDoesNotHave(t *testing.T) {
	src, err := ledgers.NewSample(3)
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		r       ledgers.Range
		missing uint32
	}{
		"before":    {ledgers.Range{First: 53311999, Last: 53312001}, 53311999},
		"after":     {ledgers.Range{First: 53312003, Last: 53312003}, 53312003},
		"past end":  {ledgers.Range{First: 53312001, Last: 53312009}, 53312003},
		"far ahead": {ledgers.Range{First: 4294967295, Last: 4294967295}, 4294967295},
	} {
		t.Run(name, func(t *testing.T) {
			err := drain(src.Ledgers(t.Context(), tc.r))
			require.ErrorIs(t, err, ledgers.ErrNotFound)
			var typed *ledgers.Error
			require.ErrorAs(t, err, &typed)
			require.Equal(t, tc.missing, typed.Sequence)
		})
	}
	require.ErrorContains(t, drain(src.Ledgers(t.Context(), ledgers.Range{First: 9, Last: 8})), "empty range 9-8")
	_, err = ledgers.NewSample(0)
	require.ErrorContains(t, err, "want 1 to")
}

func TestSampleStopsWithItsContext(t *testing.T) {
	src, err := ledgers.NewSample(1000)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	var last error
	for _, err := range src.Ledgers(ctx, ledgers.Range{First: 53312000, Last: 53312999}) {
		if last = err; err == nil {
			seen++
			cancel()
		}
	}
	require.Equal(t, 1, seen)
	require.ErrorIs(t, last, context.Canceled)
}
