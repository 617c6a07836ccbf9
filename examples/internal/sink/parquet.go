package sink

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// DefaultRowGroupBytes is the size at which a row group ends.
const DefaultRowGroupBytes = 16 << 20

// A ParquetWriter collects batches into row groups of a size. It uses the
// buffered write: the plain one makes a row group of every batch, and files
// twice as large.
type ParquetWriter struct {
	file          *pqarrow.FileWriter
	rowGroupBytes int64
}

// NewParquetWriter returns a writer into w, which it does not close.
func NewParquetWriter(w io.Writer, rowGroupBytes int64) (*ParquetWriter, error) {
	properties := parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithCompressionLevel(1),
		// A second bound: the writer's own default is 64 million rows.
		parquet.WithMaxRowGroupLength(1<<20),
		parquet.WithCreatedBy("sluice arrow-analytics-sink"),
	)
	// The writer would close w, which must be synced first: hide its Close.
	file, err := pqarrow.NewFileWriter(
		events.Schema,
		struct{ io.Writer }{w},
		properties,
		pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()),
	)
	if err != nil {
		return nil, err
	}
	return &ParquetWriter{file, rowGroupBytes}, nil
}

// Write adds a batch, of the schema [events.Schema].
func (p *ParquetWriter) Write(rec arrow.RecordBatch) error {
	if err := p.file.WriteBuffered(rec); err != nil {
		return err
	}
	if p.file.RowGroupTotalBytesWritten() >= p.rowGroupBytes {
		p.file.NewBufferedRowGroup()
	}
	return nil
}

// Close writes what is left, and the file's end.
func (p *ParquetWriter) Close() error { return p.file.Close() }
