package payload

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
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
		"all its fields":  {&flight.Action{Type: string(kilobyte), Body: []byte("four")}, 1009},
		"a number":        {3, 0},
	} {
		require.Equal(t, test.want, Size(test.m), name)
	}
	loop := &rawFrame{payload: kilobyte}
	loop.next = loop
	require.Positive(t, Size(loop))
}
