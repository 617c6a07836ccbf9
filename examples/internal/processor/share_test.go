package processor_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/ledgerstest"
	"github.com/withobsrvr/sluice/examples/internal/processor"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// Readers that do not read hold their shares and no more: another one gets its
// ledgers, at once. They end when they have made no progress for too long, and
// everything is given back.
func TestAReaderThatDoesNotReadStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sample := ledgerstest.Sample(t, 400)
		gate := stage(t, flowcontrol.Cost{Messages: 16})
		p := start(t, sample, source.Config{BatchRows: 1}, processor.Config{Stage: gate, StallTimeout: time.Minute})
		var idle []func() (batch, error)
		for range 3 {
			read, err := open(t, t.Context(), p.client, first, first+399)
			require.NoError(t, err)
			idle = append(idle, read)
		}
		synctest.Wait()
		require.Equal(t, int64(12), gate.InFlight().Messages, "three shares of four")

		began := time.Now()
		r := ledgers.Range{First: first, Last: first + 19}
		got, err := readAll(t, p.client, r.First, r.Last)
		require.NoError(t, err)
		same(t, sample, r, got, 4096)
		require.Less(t, time.Since(began), time.Minute, "it did not wait for them to be ended")

		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Zero(t, gate.InFlight(), "all is given back")
		require.Zero(t, p.processor.Counters().ActiveStreams)
		for _, read := range idle { // what was on the wire, then why it ended
			for err = nil; err == nil; {
				_, err = read()
			}
			require.Equal(t, codes.Unavailable, status.Code(err), "%v", err)
			require.ErrorContains(t, err, "its reader took nothing")
		}
	})
}
