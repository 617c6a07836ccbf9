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

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// Rows yields the rows of one output file, all columns, in the order in which
// they stand. It yields an error at most once, as its last step.
func Rows(ctx context.Context, f sink.File) iter.Seq2[events.Event, error] {
	read := map[string]func(context.Context, *os.File, func(events.Event) bool) error{
		sink.Parquet: parquetRows, sink.JSONL: jsonlRows, sink.CSV: csvRows,
	}[f.Format]
	return func(yield func(events.Event, error) bool) {
		in, err := os.Open(f.Path)
		if err != nil {
			yield(events.Event{}, fmt.Errorf("verify: %w", err))
			return
		}
		defer in.Close()
		stopped := false
		if read == nil {
			err = errors.New("unknown format")
		} else {
			err = read(ctx, in, func(e events.Event) bool {
				stopped = !yield(e, nil)
				return !stopped
			})
		}
		if err != nil && !stopped {
			yield(events.Event{}, fmt.Errorf("verify: %s: %w", f.Path, err))
		}
	}
}

func parquetRows(ctx context.Context, in *os.File, yield func(events.Event) bool) error {
	reader, err := file.NewParquetReader(in)
	if err != nil {
		return err
	}
	defer reader.Close()
	arrowReader, err := pqarrow.NewFileReader(
		reader,
		pqarrow.ArrowReadProperties{BatchSize: 4096},
		memory.DefaultAllocator,
	)
	if err != nil {
		return err
	}
	records, err := arrowReader.GetRecordReader(ctx, nil, nil)
	if err != nil {
		return err
	}
	defer records.Release()
	again := events.NewBuilder(nil)
	defer again.Release()
	for records.Next() {
		rec := records.RecordBatch()
		rows, err := events.Decode(rec)
		if err != nil {
			return err
		}
		if err := sameColumns(rec, rows, again); err != nil {
			return err
		}
		for _, e := range rows {
			if !yield(e) {
				return nil
			}
		}
	}
	if err := records.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// sameColumns proves that a batch is the one that its rows make. A row does not
// show everything: the decimal amount, and null beside an empty text.
func sameColumns(rec arrow.RecordBatch, rows []events.Event, again *events.Builder) error {
	for i := range rows {
		if err := again.Append(&rows[i]); err != nil {
			return err
		}
	}
	want := again.NewRecordBatch()
	defer want.Release()
	for i, column := range rec.Columns() {
		if !array.Equal(column, want.Column(i)) {
			return fmt.Errorf(
				"column %s disagrees with the other columns of its rows, from event %s on",
				rec.ColumnName(i),
				rows[0].ID,
			)
		}
	}
	return nil
}

func jsonlRows(_ context.Context, in *os.File, yield func(events.Event) bool) error {
	decoder := json.NewDecoder(bufio.NewReader(in))
	decoder.DisallowUnknownFields()
	for {
		var e events.Event
		switch err := decoder.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !yield(e):
			return nil
		}
	}
}

func csvRows(_ context.Context, in *os.File, yield func(events.Event) bool) error {
	table := csv.NewReader(bufio.NewReader(in))
	header, err := table.Read()
	if err != nil {
		return err
	}
	if err := sink.CheckCSVHeader(header); err != nil {
		return err
	}
	for {
		record, err := table.Read()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		e, err := sink.ParseCSVRow(record)
		if err != nil {
			return err
		}
		if !yield(e) {
			return nil
		}
	}
}
