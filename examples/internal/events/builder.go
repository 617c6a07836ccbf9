package events

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Builder collects events into a record batch.
type Builder struct {
	record *array.RecordBuilder
	bytes  int
}

// NewBuilder returns an empty builder; Release it in the end. A nil mem is the
// default allocator.
func NewBuilder(mem memory.Allocator) *Builder {
	if mem == nil {
		mem = memory.DefaultAllocator
	}
	return &Builder{record: array.NewRecordBuilder(mem, Schema)}
}

// Release frees what the builder holds.
func (b *Builder) Release() { b.record.Release() }

// Rows returns how many events the builder holds.
func (b *Builder) Rows() int { return b.record.Field(0).Len() }

// Bytes estimates the size of the batch: the bytes of its text and of its
// fixed-width values.
func (b *Builder) Bytes() int { return b.bytes }

// Append adds one event. It fails when the amount is not a whole number, and
// adds nothing then.
func (b *Builder) Append(e *Event) error {
	amount, exact, err := decimalOf(e.Amount)
	if err != nil {
		return fmt.Errorf("events: %s: %w", e.ID, err)
	}
	b.text(0, e.ID)
	b.number(1, e.LedgerSequence)
	b.record.Field(2).(*array.TimestampBuilder).Append(arrow.Timestamp(e.ClosedAt.UnixMicro()))
	b.text(3, e.TxHash)
	b.number(4, e.TxIndex)
	if e.OpIndex == 0 {
		b.record.Field(5).AppendNull()
	} else {
		b.number(5, e.OpIndex)
	}
	b.number(6, e.Ordinal)
	b.text(7, e.Type)
	b.text(8, e.Contract)
	b.text(9, e.AssetType)
	b.optional(10, e.AssetCode)
	b.optional(11, e.AssetIssuer)
	b.optional(12, e.From)
	b.optional(13, e.To)
	b.text(14, e.Amount)
	if exact {
		b.record.Field(15).(*array.Decimal128Builder).Append(amount)
	} else {
		b.record.Field(15).AppendNull()
	}
	b.optional(16, e.ToMuxedType)
	if e.ToMuxedType == "" { // the type decides: a memo text may be empty
		b.record.Field(17).AppendNull()
	} else {
		b.text(17, e.ToMuxed)
	}
	b.bytes += 8 + 16
	return nil
}

// NewRecordBatch returns what was appended as a batch, which the caller
// releases, and leaves the builder empty.
func (b *Builder) NewRecordBatch() arrow.RecordBatch {
	b.bytes = 0
	return b.record.NewRecordBatch()
}

func (b *Builder) text(i int, v string) {
	b.record.Field(i).(*array.StringBuilder).Append(v)
	b.bytes += len(v) + 4
}

func (b *Builder) optional(i int, v string) {
	if v == "" {
		b.record.Field(i).AppendNull()
		return
	}
	b.text(i, v)
}

func (b *Builder) number(i int, v uint32) {
	b.record.Field(i).(*array.Uint32Builder).Append(v)
	b.bytes += 4
}

// decimalOf converts a whole number. exact is false when it needs more than 38
// digits: an i128 reaches to 39.
func decimalOf(amount string) (n decimal128.Num, exact bool, err error) {
	if small, err := strconv.ParseInt(amount, 10, 64); err == nil {
		return decimal128.FromI64(small), true, nil
	}
	big, ok := new(big.Int).SetString(amount, 10)
	if !ok {
		return n, false, fmt.Errorf("amount %.60q is not a whole number", amount)
	}
	if big.BitLen() > 127 {
		return n, false, nil
	}
	n = decimal128.FromBigInt(big)
	return n, n.FitsInPrecision(38), nil
}

// Decode returns the rows of a batch whose schema is [Schema]. Its strings do
// not refer to the batch.
func Decode(rec arrow.RecordBatch) ([]Event, error) {
	if err := CheckSchema(rec.Schema()); err != nil {
		return nil, err
	}
	text := func(col, row int) string {
		c := rec.Column(col).(*array.String)
		if c.IsNull(row) {
			return ""
		}
		return strings.Clone(c.Value(row))
	}
	number := func(col, row int) uint32 {
		c := rec.Column(col).(*array.Uint32)
		if c.IsNull(row) {
			return 0
		}
		return c.Value(row)
	}
	out := make([]Event, rec.NumRows())
	for i := range out {
		out[i] = Event{
			ID: text(0, i), LedgerSequence: number(1, i),
			ClosedAt: time.UnixMicro(int64(rec.Column(2).(*array.Timestamp).Value(i))).UTC(),
			TxHash:   text(3, i), TxIndex: number(4, i), OpIndex: number(5, i), Ordinal: number(6, i),
			Type: text(7, i), Contract: text(8, i),
			AssetType: text(9, i), AssetCode: text(10, i), AssetIssuer: text(11, i),
			From: text(12, i), To: text(13, i), Amount: text(14, i),
			ToMuxedType: text(16, i), ToMuxed: text(17, i),
		}
	}
	return out, nil
}
