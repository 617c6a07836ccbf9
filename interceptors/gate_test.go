package interceptors_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// A gate that was never made is none: a nil pointer in the interface is not nil.
func TestNilGate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var throttler *flowcontrol.Throttler
		var recorder *flowcontroltest.Recorder
		for _, gate := range []interceptors.Gate{nil, throttler, recorder} {
			server := newServer(t, interceptors.ServerConfig{Throttler: gate, LoadReports: interceptors.LoadReportsAll})
			client := newClient(t, interceptors.ClientConfig{Throttler: gate})
			f := interceptorstest.Start(t, interceptorstest.Config{
				Server: server, Client: client, AsOptions: true,
				Service: &interceptorstest.Service{Send: interceptorstest.Batches(t, 1, 10)},
			})
			_, err := get(t.Context(), f.Client)
			require.NoError(t, err)
			idle(t, nil, server, client)
		}
	})
}

// The fakes of flowcontroltest are gates, on both sides.
func TestFakesAreGates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		full := flowcontroltest.AlwaysRejects{RetryAfter: 2 * time.Second}
		server := newServer(t, interceptors.ServerConfig{Throttler: full, Pushback: interceptors.Pushback{Jitter: -1}})
		f := interceptorstest.Start(t, interceptorstest.Config{Server: server})
		_, err := get(t.Context(), f.Client)
		require.Equal(t, codes.Unavailable, status.Code(err))
		delay, _ := interceptors.RetryAfter(err)
		require.Equal(t, 2*time.Second, delay)

		client := newClient(t, interceptors.ClientConfig{Throttler: full})
		f = interceptorstest.Start(t, interceptorstest.Config{Client: client})
		_, err = get(t.Context(), f.Client)
		require.ErrorIs(t, err, interceptors.ErrRejected)

		// A script rejects two messages of one stream, which are waits and not its end.
		rejection := &flowcontrol.Error{Reason: flowcontrol.ReasonInFlight, RetryAfter: time.Second}
		script := flowcontroltest.Script(
			flowcontroltest.Step{},
			flowcontroltest.Step{Err: rejection},
			flowcontroltest.Step{Err: rejection},
		)
		recorder := flowcontroltest.Record(script)
		f = interceptorstest.Start(t, interceptorstest.Config{
			Server: newServer(t, interceptors.ServerConfig{Throttler: recorder, StallTimeout: -1}),
		})
		began := time.Now()
		_, err = put(t.Context(), f.Client, interceptorstest.Batches(t, 1, 10))
		require.NoError(t, err)
		require.Equal(t, 2*time.Second, time.Since(began))
		require.Zero(t, script.Left())
		require.Len(t, recorder.Calls(), 5) // the call, the schema three times, the batch
	})
}
