package verify

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// A Row is what is compared of one written event.
type Row struct {
	Ledger uint32
	ID     string
	Type   string
}

// Rows yields the rows of one output file in the order in which they stand. It
// yields an error at most once, as its last step.
func Rows(ctx context.Context, f sink.File) iter.Seq2[Row, error] {
	read := map[string]func(context.Context, *os.File, func(Row) bool) error{
		sink.Parquet: parquetRows, sink.JSONL: jsonlRows, sink.CSV: csvRows,
	}[f.Format]
	return func(yield func(Row, error) bool) {
		in, err := os.Open(f.Path)
		if err != nil {
			yield(Row{}, fmt.Errorf("verify: %w", err))
			return
		}
		defer in.Close()
		stopped := false
		if read == nil {
			err = errors.New("unknown format")
		} else {
			err = read(ctx, in, func(r Row) bool {
				stopped = !yield(r, nil)
				return !stopped
			})
		}
		if err != nil && !stopped {
			yield(Row{}, fmt.Errorf("verify: %s: %w", f.Path, err))
		}
	}
}

func parquetRows(ctx context.Context, in *os.File, yield func(Row) bool) error {
	reader, err := file.NewParquetReader(in)
	if err != nil {
		return err
	}
	defer reader.Close()
	arrowReader, err := pqarrow.NewFileReader(reader, pqarrow.ArrowReadProperties{BatchSize: 4096}, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	var columns []int
	for _, name := range []string{events.ColLedgerSequence, events.ColEventID, events.ColEventType} {
		i := reader.MetaData().Schema.ColumnIndexByName(name)
		if i < 0 {
			return fmt.Errorf("no column %s", name)
		}
		columns = append(columns, i)
	}
	records, err := arrowReader.GetRecordReader(ctx, columns, nil)
	if err != nil {
		return err
	}
	defer records.Release()
	for records.Next() {
		rec := records.RecordBatch()
		column := func(name string) int { return rec.Schema().FieldIndices(name)[0] }
		sequences, okS := rec.Column(column(events.ColLedgerSequence)).(*array.Uint32)
		ids, okI := rec.Column(column(events.ColEventID)).(*array.String)
		types, okT := rec.Column(column(events.ColEventType)).(*array.String)
		if !okS || !okI || !okT {
			return fmt.Errorf("columns have other types: %v", rec.Schema())
		}
		for i := range int(rec.NumRows()) {
			if !yield(Row{sequences.Value(i), ids.Value(i), types.Value(i)}) {
				return nil
			}
		}
	}
	if err := records.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func jsonlRows(_ context.Context, in *os.File, yield func(Row) bool) error {
	decoder := json.NewDecoder(bufio.NewReader(in))
	for {
		var e events.Event
		switch err := decoder.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !yield(Row{e.LedgerSequence, e.ID, e.Type}):
			return nil
		}
	}
}

func csvRows(_ context.Context, in *os.File, yield func(Row) bool) error {
	table := csv.NewReader(bufio.NewReader(in))
	header, err := table.Read()
	if err != nil {
		return err
	}
	at := map[string]int{}
	for i, name := range header {
		at[name] = i
	}
	for _, name := range []string{events.ColLedgerSequence, events.ColEventID, events.ColEventType} {
		if _, ok := at[name]; !ok {
			return fmt.Errorf("no column %s", name)
		}
	}
	for {
		record, err := table.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		sequence, err := strconv.ParseUint(record[at[events.ColLedgerSequence]], 10, 32)
		if err != nil {
			return err
		}
		if !yield(Row{uint32(sequence), record[at[events.ColEventID]], record[at[events.ColEventType]]}) {
			return nil
		}
	}
}
