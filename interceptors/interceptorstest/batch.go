package interceptorstest

import (
	"sync"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/protobuf/proto"
)

// Schema is the schema of [Batches]: one column of int64.
var Schema = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

// capture is a stream that keeps what a flight.Writer sends, copied: the writer
// uses one FlightData for all of them.
type capture struct {
	mu   sync.Mutex
	sent []*flight.FlightData
}

func (c *capture) Send(m *flight.FlightData) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, proto.Clone(m).(*flight.FlightData))
	return nil
}

// Batches returns a schema message and n record batches of rows rows each, as
// arrow-go's own writer encodes them.
func Batches(t testing.TB, n, rows int, opts ...ipc.Option) []*flight.FlightData {
	t.Helper()
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	for i := range rows {
		b.Append(int64(i))
	}
	column := b.NewArray()
	defer column.Release()
	record := array.NewRecordBatch(Schema, []arrow.Array{column}, int64(rows))
	defer record.Release()
	return Encode(t, Schema, n, record, opts...)
}

// Encode returns what a flight.Writer sends for n times the record: the schema,
// dictionaries where there are any, and the batches.
func Encode(
	t testing.TB, schema *arrow.Schema, n int, record arrow.RecordBatch, opts ...ipc.Option,
) []*flight.FlightData {
	t.Helper()
	c := &capture{}
	w := flight.NewRecordWriter(c, append([]ipc.Option{ipc.WithSchema(schema)}, opts...)...)
	for range n {
		if err := w.Write(record); err != nil {
			t.Fatalf("interceptorstest: encode: %v", err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("interceptorstest: encode: %v", err)
	}
	return c.sent
}

// Bomb returns a record batch of a few kilobytes that claims to be size bytes
// when decoded: a column of zeros, compressed.
func Bomb(t testing.TB, size int) *flight.FlightData {
	t.Helper()
	b := array.NewInt64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues(make([]int64, size/8), nil)
	column := b.NewArray()
	defer column.Release()
	record := array.NewRecordBatch(Schema, []arrow.Array{column}, int64(size/8))
	defer record.Release()
	sent := Encode(t, Schema, 1, record, ipc.WithZstd())
	return sent[len(sent)-1]
}

// Put returns messages as a DoPut or DoExchange sends them: a copy, whose first carries the descriptor.
func Put(descriptor *flight.FlightDescriptor, messages []*flight.FlightData) []*flight.FlightData {
	out := make([]*flight.FlightData, len(messages))
	for i, m := range messages {
		out[i] = proto.Clone(m).(*flight.FlightData)
	}
	if len(out) > 0 {
		out[0].FlightDescriptor = descriptor
	}
	return out
}
