package processor_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/ledgerstest"
	"github.com/withobsrvr/sluice/examples/internal/processor"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// As in the program, the source is read through a pool. The pool sees every
// stream end, those too whose consumer went away.
func TestTheSourceIsReadThroughAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sample := ledgerstest.Sample(t, 100)
		from, err := source.New(sample, source.Config{})
		require.NoError(t, err)
		pool, err := connpool.New("passthrough:///source", connpool.Config{
			Credentials: insecure.NewCredentials(), DialOptions: listen(t, from), Abandoned: connpool.Leave,
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, pool.Close()) })
		srv, err := processor.New(processor.Config{Source: pool.Shared(), Stage: stage(t, flowcontrol.Cost{Messages: 2})})
		require.NoError(t, err)
		client := flight.NewClientFromConn(serve(t, srv), nil)

		r := ledgers.Range{First: first, Last: first + 3}
		got, err := readAll(t, client, r.First, r.Last)
		require.NoError(t, err)
		same(t, sample, r, got, 4096)

		ctx, cancel := context.WithCancel(t.Context())
		read, err := open(t, ctx, client, first, first+99)
		require.NoError(t, err)
		_, err = read()
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, pool.Stats().Streams)
		cancel()
		synctest.Wait()
		require.Zero(t, pool.Stats().Streams)
		require.Positive(t, pool.Stats().TotalUseCount)
		require.Zero(t, from.Counters().ActiveStreams)
	})
}
