package source

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// rowOverhead is an upper bound of what a row takes beside its XDR.
const rowOverhead = 256

// batch collects rows until one more would make it too big.
type batch struct {
	record *array.RecordBuilder
	bytes  int // of the rows in it
}

func newBatch(mem memory.Allocator, schema *arrow.Schema) *batch {
	return &batch{record: array.NewRecordBuilder(mem, schema)}
}

func (b *batch) rows() int { return b.record.Field(0).Len() }

// append adds the part'th of parts rows of a ledger.
func (b *batch) append(h header, total, part, parts int, xdr []byte) {
	f := b.record.Field
	f(0).(*array.Uint32Builder).Append(h.sequence)
	f(1).(*array.TimestampBuilder).Append(arrow.Timestamp(h.closedAt.UnixMicro()))
	f(2).(*array.StringBuilder).Append(h.hash)
	f(3).(*array.StringBuilder).Append(h.previous)
	f(4).(*array.Uint32Builder).Append(h.protocol)
	f(5).(*array.Uint32Builder).Append(h.transactions)
	f(6).(*array.Uint32Builder).Append(h.successful)
	f(7).(*array.Uint32Builder).Append(h.operations)
	f(8).(*array.Int64Builder).Append(int64(total))
	f(9).(*array.Uint32Builder).Append(uint32(part))
	f(10).(*array.Uint32Builder).Append(uint32(parts))
	data := f(11).(*array.BinaryBuilder)
	data.ReserveData(len(xdr))
	data.Append(xdr)
	b.bytes += len(xdr) + rowOverhead
}

// take returns the rows as a record batch and leaves the batch empty.
func (b *batch) take() arrow.RecordBatch {
	b.bytes = 0
	return b.record.NewRecordBatch()
}
