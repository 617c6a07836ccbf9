package sink

import (
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/withobsrvr/sluice/examples/internal/events"
)

// parquetWriter collects batches into row groups of a size. It uses the
// buffered write: the plain one makes a row group of every batch, and files
// twice as large.
type parquetWriter struct {
	file          *pqarrow.FileWriter
	rowGroupBytes int64
}

func newParquetWriter(w io.Writer, rowGroupBytes int64) (*parquetWriter, error) {
	properties := parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Zstd),
		parquet.WithCompressionLevel(1),
		// A second bound: the writer's own default is 64 million rows.
		parquet.WithMaxRowGroupLength(1<<20),
		parquet.WithCreatedBy("sluice arrow-analytics-sink"),
	)
	// The writer would close w, which must be synced first: hide its Close.
	file, err := pqarrow.NewFileWriter(events.Schema, struct{ io.Writer }{w}, properties, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		return nil, err
	}
	return &parquetWriter{file, rowGroupBytes}, nil
}

func (p *parquetWriter) Write(rec arrow.RecordBatch) error {
	if err := p.file.WriteBuffered(rec); err != nil {
		return err
	}
	if p.file.RowGroupTotalBytesWritten() >= p.rowGroupBytes {
		p.file.NewBufferedRowGroup()
	}
	return nil
}

func (p *parquetWriter) Close() error { return p.file.Close() }
