package ledgers_test

import (
	"iter"
	"testing"

	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// drain runs a stream to its end and returns its error.
func drain(stream iter.Seq2[ledgers.Ledger, error]) error {
	var last error
	for _, err := range stream {
		last = err
	}
	return last
}

func headerSequence(t *testing.T, raw []byte) uint32 {
	t.Helper()
	seq, err := xdr.LedgerCloseMetaView(raw).LedgerSequence()
	require.NoError(t, err)
	return seq
}

// The zero Range is what a caller has that knows no range; it is not ledger 0.
func TestTheZeroRangeIsEmpty(t *testing.T) {
	require.Zero(t, ledgers.Range{}.Len())
	require.False(t, ledgers.Range{Last: 9}.Contains(ledgers.Range{}))
	require.Error(t, ledgers.CheckBounds(ledgers.Range{}, ledgers.Range{Last: 9}))
	require.Equal(t, uint64(1), ledgers.Range{First: 7, Last: 7}.Len())
}
