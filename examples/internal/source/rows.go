package source

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Row is what a client needs of a row to put ledgers together.
type Row struct {
	Sequence    uint32
	Part, Parts uint32
	Total       int64  // bytes of the whole ledger
	XDR         []byte // borrowed from the batch
}

// CheckSchema returns an error that names the first difference between the
// columns of got and those of [Schema], and the passphrase of the network.
func CheckSchema(got *arrow.Schema) (passphrase string, err error) {
	want := Schema("")
	if got.NumFields() != want.NumFields() {
		return "", fmt.Errorf("source: %d columns, want %d", got.NumFields(), want.NumFields())
	}
	for i, w := range want.Fields() {
		if f := got.Field(i); f.Name != w.Name || !arrow.TypeEqual(f.Type, w.Type) {
			return "", fmt.Errorf("source: column %d is %s %s, want %s %s", i, f.Name, f.Type, w.Name, w.Type)
		}
	}
	passphrase, ok := got.Metadata().GetValue(MetaPassphrase)
	if !ok || passphrase == "" {
		return "", errors.New("source: the schema does not say the network's passphrase")
	}
	return passphrase, nil
}

// Rows returns the rows of a batch whose schema passed [CheckSchema]. It fails
// when the batch breaks the rules of parts: a part of a ledger is alone in its
// batch.
func Rows(rec arrow.RecordBatch) ([]Row, error) {
	var (
		sequence = rec.Column(0).(*array.Uint32)
		total    = rec.Column(8).(*array.Int64)
		part     = rec.Column(9).(*array.Uint32)
		parts    = rec.Column(10).(*array.Uint32)
		data     = rec.Column(11).(*array.Binary)
	)
	rows := make([]Row, rec.NumRows())
	for i := range rows {
		r := Row{sequence.Value(i), part.Value(i), parts.Value(i), total.Value(i), data.Value(i)}
		switch {
		case r.Parts == 0 || r.Part >= r.Parts,
			r.Parts > 1 && len(rows) > 1,
			r.Parts == 1 && int64(len(r.XDR)) != r.Total:
			return nil, fmt.Errorf("source: ledger %d: part %d of %d with %d of %d bytes in a batch of %d rows",
				r.Sequence, r.Part, r.Parts, len(r.XDR), r.Total, len(rows))
		}
		rows[i] = r
	}
	return rows, nil
}
