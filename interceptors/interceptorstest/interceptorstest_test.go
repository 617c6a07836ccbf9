package interceptorstest_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// recorder is a test that keeps its failures.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func TestAssertionsFailWhenTheyShould(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate, err := flowcontrol.New(flowcontrol.Config{})
		require.NoError(t, err)
		governor, err := interceptors.NewServer(interceptors.ServerConfig{Throttler: gate, StallTimeout: -1})
		require.NoError(t, err)
		f := interceptorstest.Start(t, interceptorstest.Config{Server: governor})
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := f.Client.DoExchange(ctx)
		require.NoError(t, err)
		for _, m := range interceptorstest.Batches(t, 1, 5) {
			require.NoError(t, stream.Send(m))
			_, err = stream.Recv()
			require.NoError(t, err)
		}
		permit, err := gate.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)

		r := &recorder{TB: t}
		interceptorstest.Idle(r, governor)
		interceptorstest.Empty(r, gate)
		interceptorstest.Rows(r, governor, interceptors.ClassExchange, 5, 6)
		interceptorstest.Rejected(r, governor, interceptors.ReasonStalled, 1)
		require.Len(t, r.failures, 5, r.failures) // Idle has two things to say

		permit.Release(flowcontrol.Success)
		cancel()
		synctest.Wait()
		r.failures = nil
		interceptorstest.Idle(r, governor)
		interceptorstest.Empty(r, gate)
		interceptorstest.Rows(r, governor, interceptors.ClassExchange, 5, 5)
		interceptorstest.Rejected(r, governor, interceptors.ReasonStalled, 0)
		require.Empty(t, r.failures)
	})
}
