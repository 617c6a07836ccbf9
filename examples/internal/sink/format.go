package sink

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// The formats of output files, which are also their extensions.
const (
	Parquet = "parquet"
	JSONL   = "jsonl"
	CSV     = "csv"
)

// Formats lists what [Config].Format accepts.
var Formats = []string{Parquet, JSONL, CSV}

// A fileWriter turns record batches into the bytes of one file. Close writes
// what is left and does not close the file below.
type fileWriter interface {
	Write(arrow.RecordBatch) error
	Close() error
}

func newFileWriter(format string, w io.Writer, rowGroupBytes int64) (fileWriter, error) {
	switch format {
	case Parquet:
		return NewParquetWriter(w, rowGroupBytes)
	case JSONL:
		return newTextWriter(w, func(b *bufio.Writer) (writeRow, func() error) {
			encoder := json.NewEncoder(b)
			return func(e *events.Event) error { return encoder.Encode(e) }, b.Flush
		})
	case CSV:
		return newTextWriter(w, func(b *bufio.Writer) (writeRow, func() error) {
			table := csv.NewWriter(b)
			_ = table.Write(csvHeader()) // what fails here fails again in flush
			return func(e *events.Event) error { return table.Write(csvRow(e)) }, func() error {
				table.Flush()
				return table.Error()
			}
		})
	}
	return nil, fmt.Errorf("sink: unknown format %q: want one of %v", format, Formats)
}

type writeRow func(*events.Event) error

// textWriter writes a row at a time, for the formats made of lines.
type textWriter struct {
	row   writeRow
	flush func() error
}

func newTextWriter(w io.Writer, open func(*bufio.Writer) (writeRow, func() error)) (*textWriter, error) {
	row, flush := open(bufio.NewWriterSize(w, 64<<10))
	return &textWriter{row, flush}, nil
}

func (t *textWriter) Write(rec arrow.RecordBatch) error {
	rows, err := events.Decode(rec)
	if err != nil {
		return err
	}
	for i := range rows {
		if err := t.row(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *textWriter) Close() error { return t.flush() }

// csvHeader leaves out the decimal form of the amount: in text both are one.
func csvHeader() []string {
	return []string{
		events.ColEventID, events.ColLedgerSequence, events.ColClosedAt, events.ColTxHash, events.ColTxIndex, events.ColOpIndex,
		events.ColOrdinal, events.ColEventType, events.ColContract, events.ColAssetType, events.ColAssetCode, events.ColAssetIssuer,
		events.ColFrom, events.ColTo, events.ColAmount, events.ColToMuxedType, events.ColToMuxed,
	}
}

// CheckCSVHeader returns an error when header is not that of our CSV files.
func CheckCSVHeader(header []string) error {
	if want := csvHeader(); !slices.Equal(header, want) {
		return fmt.Errorf("sink: columns %q, want %q", header, want)
	}
	return nil
}

// ParseCSVRow reads a row of a file whose header CheckCSVHeader accepted.
func ParseCSVRow(row []string) (e events.Event, err error) {
	if len(row) != len(csvHeader()) {
		return e, fmt.Errorf("sink: a row of %d columns, want %d", len(row), len(csvHeader()))
	}
	var errs []error
	number := func(s string) uint32 {
		if s == "" {
			return 0
		}
		n, err := strconv.ParseUint(s, 10, 32)
		errs = append(errs, err)
		return uint32(n)
	}
	at, err := time.Parse(time.RFC3339Nano, row[2])
	errs = append(errs, err)
	e = events.Event{
		ID: row[0], LedgerSequence: number(row[1]), ClosedAt: at, TxHash: row[3], TxIndex: number(row[4]), OpIndex: number(row[5]),
		Ordinal: number(row[6]), Type: row[7], Contract: row[8], AssetType: row[9], AssetCode: row[10], AssetIssuer: row[11],
		From: row[12], To: row[13], Amount: row[14], ToMuxedType: row[15], ToMuxed: row[16],
	}
	return e, errors.Join(errs...)
}

func csvRow(e *events.Event) []string {
	number := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	operation := ""
	if e.OpIndex != 0 {
		operation = number(e.OpIndex)
	}
	return []string{
		e.ID, number(e.LedgerSequence), e.ClosedAt.UTC().Format(time.RFC3339Nano), e.TxHash, number(e.TxIndex), operation,
		number(e.Ordinal), e.Type, e.Contract, e.AssetType, e.AssetCode, e.AssetIssuer,
		e.From, e.To, e.Amount, e.ToMuxedType, e.ToMuxed,
	}
}
