package events_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// Metadata that is accepted is plausible, and survives a round trip.
func FuzzBatchInfo(f *testing.F) {
	f.Add(events.BatchInfo{Ledger: 7, Transactions: 2, Events: 3, Last: true, Entered: 1}.Marshal())
	f.Add([]byte(`{"ledger":-1}`))
	f.Add([]byte(`{"ledger":7,"events":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := events.ParseBatchInfo(b)
		if err != nil {
			return
		}
		require.Positive(t, info.Ledger)
		require.GreaterOrEqual(t, min(info.Transactions, info.Events), 0)
		again, err := events.ParseBatchInfo(info.Marshal())
		require.NoError(t, err)
		require.Equal(t, info, again)
	})
}
