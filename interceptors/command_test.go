package interceptors

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A ticket comes from outside: whatever is in it, it gets a class of its method.
func FuzzClassify(f *testing.F) {
	for _, url := range []string{
		"", "x", "type.googleapis.com/arrow.flight.protocol.sql.CommandGetTables", "/arrow.flight.protocol.sql.",
	} {
		b, err := proto.Marshal(&anypb.Any{TypeUrl: url, Value: []byte{1}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	get, put := newMethod(flightService+"DoGet", false, true), newMethod(flightService+"DoPut", true, true)
	f.Fuzz(func(t *testing.T, b []byte) {
		if c := classify(get, &flight.Ticket{Ticket: b}); c != ClassGet && c != ClassGetMetadata {
			t.Fatalf("a DoGet of class %v", c)
		}
		c := classify(put, &flight.FlightData{FlightDescriptor: &flight.FlightDescriptor{Cmd: b}})
		if c != ClassPut && c != ClassPutBind && c != ClassPutUpdate {
			t.Fatalf("a DoPut of class %v", c)
		}
		if c := classify(put, nil); c != ClassPut {
			t.Fatalf("a DoPut of nothing of class %v", c)
		}
	})
}

// A proxy serves whatever its clients name: the names must not fill its memory.
func TestMadeUpMethodsAreNotRemembered(t *testing.T) {
	s, err := NewServer(ServerConfig{})
	require.NoError(t, err)
	for i := range 3 * maxMethods {
		info := &grpc.StreamServerInfo{FullMethod: fmt.Sprintf("/made.up/%d", i), IsServerStream: true}
		require.NoError(
			t,
			s.interceptStream(nil, &nullStream{ctx: t.Context()}, info, func(any, grpc.ServerStream) error { return nil }),
		)
	}
	n := 0
	s.methods.Range(func(any, any) bool { n++; return true })
	require.Equal(t, maxMethods, n)
	require.EqualValues(t, 3*maxMethods, s.Stats().Class(ClassStream).Completed)
}
