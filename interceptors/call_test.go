package interceptors

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A RecvMsg that gets its room when the call has ended gives it back, and leaves
// alone what the end is giving back at the same moment.
func TestRoomAfterTheEndIsGivenBack(t *testing.T) {
	gate, err := flowcontrol.New(flowcontrol.Config{})
	require.NoError(t, err)
	stream := hotStream(t, ServerConfig{Throttler: gate}, flightService+"DoPut")
	require.NoError(t, stream.RecvMsg(plainBatch))
	require.EqualValues(t, 1, gate.InFlight().Messages)
	require.Equal(t, flowcontrol.Cost{Messages: 1, Rows: 100, Bytes: 64<<10 + 64}, stream.inFlight())
	stream.over.Store(1)
	require.NoError(t, stream.take(&weight{bytes: 1, batch: true}, stream.now()))
	require.EqualValues(t, 1, gate.InFlight().Messages)
	stream.giveBack(flowcontrol.Ignored)
	stream.giveBack(flowcontrol.Ignored)
	require.Zero(t, gate.InFlight())
	require.EqualValues(t, 2, gate.Stats().Completed)
}
