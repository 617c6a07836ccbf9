package interceptors

import (
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type rawFrame struct {
	payload []byte
	next    *rawFrame
}

type sized int

func (s sized) Size() int { return int(s) }

func TestSizeOfWhatIsNoProtobuf(t *testing.T) {
	kilobyte := make([]byte, 1000)
	pointer := &kilobyte
	for name, test := range map[string]struct {
		m    any
		want int64
	}{
		"nil":             {nil, 0},
		"nil pointer":     {(*rawFrame)(nil), 0},
		"bytes":           {kilobyte, 1000},
		"pointer":         {pointer, 1000},
		"pointer twice":   {&pointer, 1000},
		"string":          {"four", 4},
		"frame":           {&rawFrame{payload: kilobyte}, 1000},
		"frames":          {&rawFrame{payload: kilobyte, next: &rawFrame{payload: kilobyte}}, 2000},
		"slices":          {[][]byte{kilobyte, kilobyte}, 2000},
		"buffers of gRPC": {mem.BufferSlice{mem.SliceBuffer(kilobyte)}, 1000},
		"Size":            {sized(7), 7},
		"negative Size":   {sized(-7), 0},
		"protobuf":        {wrapperspb.Bytes(kilobyte), 1003},
		"a number":        {3, 0},
	} {
		require.Equal(t, test.want, sizeOf(test.m), name)
	}
	loop := &rawFrame{payload: kilobyte}
	loop.next = loop
	require.Positive(t, sizeOf(loop))
}

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
