package interceptors

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// rawFrame is what the codec of a transparent proxy passes on.
type rawFrame struct{ payload []byte }

// A frame of a transparent proxy passes no guard by being no protobuf.
func TestFramesAreGuarded(t *testing.T) {
	s, err := NewServer(ServerConfig{Guards: Guards{MaxMessageBytes: 1000}})
	require.NoError(t, err)
	cl := s.newCall(s.method("/any.Service/Method", true, true), true)
	var w weight
	require.Nil(t, s.weigh(cl, &rawFrame{payload: make([]byte, 1000)}, true, &w))
	require.EqualValues(t, 1000, s.cost(&w).Bytes)
	e := s.weigh(cl, &rawFrame{payload: make([]byte, 1001)}, true, &w)
	require.Equal(t, ReasonMessageBytes, e.Reason)
}
