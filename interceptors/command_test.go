package interceptors

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// A ticket comes from outside: whatever is in it, it gets a class of its method.
func FuzzClassify(f *testing.F) {
	for _, url := range []string{"", "x", "type.googleapis.com/arrow.flight.protocol.sql.CommandGetTables", "/arrow.flight.protocol.sql."} {
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
		if c := classify(put, &flight.FlightData{FlightDescriptor: &flight.FlightDescriptor{Cmd: b}}); c != ClassPut && c != ClassPutBind && c != ClassPutUpdate {
			t.Fatalf("a DoPut of class %v", c)
		}
		if c := classify(put, nil); c != ClassPut {
			t.Fatalf("a DoPut of nothing of class %v", c)
		}
	})
}
