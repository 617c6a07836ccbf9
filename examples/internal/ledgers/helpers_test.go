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
