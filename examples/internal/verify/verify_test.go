package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/processor"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/sink"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/examples/internal/verify"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// serve returns a connection to a Flight server in memory.
func serve(t *testing.T, s flight.FlightServer) grpc.ClientConnInterface {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, s)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// write runs the real source, processor and sink over n ledgers of the sample.
func write(t *testing.T, format string, n uint32) (string, ledgers.Source, ledgers.Range) {
	t.Helper()
	src, err := ledgers.NewSample(n)
	require.NoError(t, err)
	asked, err := src.Bounds(t.Context())
	require.NoError(t, err)
	from, err := source.New(src, source.Config{})
	require.NoError(t, err)
	through, err := processor.New(processor.Config{Source: serve(t, from)})
	require.NoError(t, err)
	gate, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 4}})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "run")
	s, err := sink.New(sink.Config{
		Client: flight.NewClientFromConn(serve(t, through), nil), Range: asked, Dir: dir, Format: format, Throttler: gate,
	})
	require.NoError(t, err)
	require.NoError(t, s.Run(t.Context(), nil))
	return dir, src, asked
}

func TestCompareFindsNothingInAGoodRun(t *testing.T) {
	for _, format := range sink.Formats {
		t.Run(format, func(t *testing.T) {
			dir, src, asked := write(t, format, 4)
			var last uint32
			got, err := verify.Compare(t.Context(), dir, src, asked, func(ledger uint32) { last = ledger })
			require.NoError(t, err)
			require.Equal(t, verify.Result{
				Ledgers: 4, Transactions: 824, Events: 1924, Written: 1924,
				ByType: map[string]int64{"fee": 1028, "transfer": 850, "mint": 26, "burn": 20},
			}, got)
			require.Equal(t, asked.Last, last)
		})
	}
}

// row is what the independent reader sees of an event. Its field types are what
// the columns should be to anybody.
type row struct {
	ID       string  `parquet:"event_id"`
	Ledger   uint32  `parquet:"ledger_sequence"`
	ClosedAt int64   `parquet:"closed_at,timestamp(microsecond)"`
	TxHash   string  `parquet:"tx_hash"`
	TxIndex  uint32  `parquet:"tx_index"`
	OpIndex  *uint32 `parquet:"op_index,optional"`
	Type     string  `parquet:"event_type"`
	Contract string  `parquet:"contract"`
	Asset    string  `parquet:"asset_type"`
	Code     *string `parquet:"asset_code,optional"`
	From     *string `parquet:"from_address,optional"`
	To       *string `parquet:"to_address,optional"`
	Amount   string  `parquet:"amount"`
	MuxType  *string `parquet:"to_muxed_type,optional"`
	Mux      *string `parquet:"to_muxed,optional"`
}

// Another implementation of Parquet reads what the SDK says, row by row.
func TestAnIndependentReaderSeesTheSameRows(t *testing.T) {
	dir, src, asked := write(t, sink.Parquet, 2)
	files, err := sink.Files(dir)
	require.NoError(t, err)
	var got []row
	for _, f := range files {
		rows, err := parquet.ReadFile[row](f.Path)
		require.NoError(t, err)
		got = append(got, rows...)

		in, err := os.Open(f.Path)
		require.NoError(t, err)
		defer in.Close()
		info, err := in.Stat()
		require.NoError(t, err)
		opened, err := parquet.OpenFile(in, info.Size())
		require.NoError(t, err)
		for _, group := range opened.Metadata().RowGroups {
			for _, column := range group.Columns {
				require.Equal(t, "ZSTD", column.MetaData.Codec.String())
			}
		}
		decimal, ok := opened.Schema().Lookup(events.ColAmountDecimal)
		require.True(t, ok)
		require.Equal(t, "DECIMAL(38,0)", decimal.Node.Type().String())
	}
	optional := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	var want []row
	for ledger, err := range extract.Direct(t.Context(), src, asked) {
		require.NoError(t, err)
		for _, e := range ledger.Events {
			r := row{
				ID: e.ID, Ledger: e.LedgerSequence, ClosedAt: e.ClosedAt.UnixMicro(), TxHash: e.TxHash, TxIndex: e.TxIndex, Type: e.Type,
				Contract: e.Contract, Asset: e.AssetType, Code: optional(e.AssetCode), From: optional(e.From), To: optional(e.To), Amount: e.Amount,
				MuxType: optional(e.ToMuxedType), Mux: optional(e.ToMuxed),
			}
			if e.OpIndex != 0 {
				r.OpIndex = &e.OpIndex
			}
			want = append(want, r)
		}
	}
	require.Len(t, want, 962)
	require.Equal(t, want, got)
}

// The comparison finds what it is for. The files are lines of text here, so
// that a test can spoil them.
func TestCompareFindsWhatIsWrong(t *testing.T) {
	dir, src, asked := write(t, sink.JSONL, 2)
	files, err := sink.Files(dir)
	require.NoError(t, err)
	require.NotEmpty(t, files)
	spoil := func(t *testing.T, change func(lines []string) []string) (changed []sink.File) {
		t.Helper()
		spoilt := t.TempDir()
		for i, f := range files {
			text, err := os.ReadFile(f.Path)
			require.NoError(t, err)
			lines := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
			if i == 0 {
				lines = change(lines)
			}
			f.Path = filepath.Join(spoilt, f.Name)
			require.NoError(t, os.WriteFile(f.Path, []byte(strings.Join(lines, "")), 0o644))
			changed = append(changed, f)
		}
		return changed
	}
	for name, tc := range map[string]struct {
		change                    func([]string) []string
		lost, duplicates, unknown int64
	}{
		"a row is missing":   {func(l []string) []string { return l[1:] }, 1, 0, 0},
		"a row came twice":   {func(l []string) []string { return append([]string{l[0]}, l...) }, 0, 1, 0},
		"a row is not known": {func(l []string) []string { return append([]string{other(t, l[0])}, l[1:]...) }, 1, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify.CompareFiles(t.Context(), spoil(t, tc.change), src, asked, nil)
			require.NoError(t, err)
			require.Equal(t, [3]int64{tc.lost, tc.duplicates, tc.unknown}, [3]int64{got.Lost, got.Duplicates, got.Unknown})
		})
	}

	t.Run("a whole file came twice", func(t *testing.T) {
		whole := spoil(t, func(l []string) []string { return l })
		text, err := os.ReadFile(whole[0].Path)
		require.NoError(t, err)
		got, err := verify.CompareFiles(t.Context(), append(whole, whole[0]), src, asked, nil)
		require.NoError(t, err)
		require.Equal(t, int64(strings.Count(string(text), "\n")+1), got.Duplicates)
		require.Zero(t, got.Lost)
	})
	t.Run("the folder is damaged", func(t *testing.T) {
		dir, _, _ := write(t, sink.JSONL, 2)
		held, err := sink.Files(dir)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(held[0].Path, 100))
		_, err = verify.Compare(t.Context(), dir, src, asked, nil)
		require.ErrorIs(t, err, sink.ErrDamaged)
		require.ErrorContains(t, err, held[0].Name)
	})
	t.Run("a file past the range", func(t *testing.T) {
		got, err := verify.CompareFiles(
			t.Context(),
			spoil(t, func(l []string) []string { return l }),
			src,
			ledgers.Range{First: asked.First, Last: asked.First},
			nil,
		)
		require.NoError(t, err)
		require.Equal(t, int64(666), got.Unknown)
	})
	t.Run("a file is cut off", func(t *testing.T) {
		_, err := verify.CompareFiles(
			t.Context(),
			spoil(t, func(l []string) []string { return append(l[:1:1], l[1][:20]) }),
			src,
			asked,
			nil,
		)
		require.ErrorContains(t, err, filepath.Base(files[0].Path))
	})
	t.Run("rows out of order", func(t *testing.T) {
		_, err := verify.CompareFiles(t.Context(), spoil(t, func(l []string) []string {
			return append([]string{l[len(l)-1]}, l[:len(l)-1]...)
		}), src, asked, nil)
		require.ErrorContains(t, err, "after ledger")
	})
}

// Every column counts, and the first differences are named.
func TestCompareFindsADifferenceInAnyColumn(t *testing.T) {
	dir, src, asked := write(t, sink.JSONL, 1)
	files, err := sink.Files(dir)
	require.NoError(t, err)
	text, err := os.ReadFile(files[0].Path)
	require.NoError(t, err)
	lines := strings.SplitAfter(string(text), "\n")
	for column, value := range map[string]any{
		"closed_at": "2020-01-01T00:00:00Z", "tx_hash": "ab", "tx_index": 7777, "op_index": 77, "ordinal": 99, "event_type": "gift",
		"contract": "C", "asset_type": "gold", "asset_code": "AU", "asset_issuer": "G", "from_address": "G", "to_address": "G",
		"amount": "77777777777", "to_muxed_type": "hash", "to_muxed": "x",
	} {
		t.Run(column, func(t *testing.T) {
			f := files[0]
			f.Path = filepath.Join(t.TempDir(), f.Name)
			changed := append([]string{changed(t, lines[0], column, value)}, lines[1:]...)
			require.NoError(t, os.WriteFile(f.Path, []byte(strings.Join(changed, "")), 0o644))
			got, err := verify.CompareFiles(t.Context(), []sink.File{f}, src, asked, nil)
			require.NoError(t, err)
			require.Equal(t, int64(1), got.Different)
			require.False(t, got.Good())
			require.Zero(t, got.Lost+got.Duplicates+got.Unknown)
			require.Len(t, got.Examples, 1)
			require.Contains(t, got.Examples[0], column+" is ")
		})
	}
}

// What a row of text does not show: the decimal amount, and null.
func TestCompareFindsWhatOnlyParquetHas(t *testing.T) {
	dir, src, asked := write(t, sink.Parquet, 1)
	files, err := sink.Files(dir)
	require.NoError(t, err)
	for column, value := range map[string]arrow.Array{
		events.ColAmountDecimal: array.MakeArrayOfNull(memory.DefaultAllocator, events.Schema.Field(15).Type, 296),
		events.ColAssetCode:     emptyTexts(296),
	} {
		t.Run(column, func(t *testing.T) {
			f := files[0]
			f.Path = filepath.Join(t.TempDir(), f.Name)
			replaceColumn(t, files[0].Path, f.Path, column, value)
			_, err = verify.CompareFiles(t.Context(), []sink.File{f}, src, asked, nil)
			require.ErrorContains(t, err, "column "+column+" disagrees")
		})
	}
}

func emptyTexts(n int) arrow.Array {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for range n {
		b.Append("")
	}
	return b.NewArray()
}

func replaceColumn(t *testing.T, from, to, column string, value arrow.Array) {
	t.Helper()
	text, err := os.ReadFile(from)
	require.NoError(t, err)
	table, err := pqarrow.ReadTable(
		t.Context(),
		bytes.NewReader(text),
		nil,
		pqarrow.ArrowReadProperties{},
		memory.DefaultAllocator,
	)
	require.NoError(t, err)
	defer table.Release()
	i := table.Schema().FieldIndices(column)[0]
	chunked := arrow.NewChunked(value.DataType(), []arrow.Array{value})
	columns := make([]arrow.Column, table.NumCols())
	for c := range columns {
		columns[c] = *table.Column(c)
	}
	columns[i] = *arrow.NewColumn(table.Schema().Field(i), chunked)
	changed := array.NewTable(table.Schema(), columns, table.NumRows())
	var out bytes.Buffer
	require.NoError(
		t,
		pqarrow.WriteTable(changed, &out, 1<<20, nil, pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema())),
	)
	require.NoError(t, os.WriteFile(to, out.Bytes(), 0o644))
}

// The command finds out by itself which ledgers a folder holds.
func TestTheCommand(t *testing.T) {
	dir, _, _ := write(t, sink.CSV, 2)
	none := func(string) (string, bool) { return "", false }
	var out bytes.Buffer
	require.NoError(t, verify.Run(t.Context(), dir, none, programs.OpenLedgers, &out))
	require.Contains(t, out.String(), "2 ledgers, 962 events in 1 files: 0 lost, 0 duplicates, 0 unknown, 0 different")
	require.Equal(
		t,
		component.ExitFailed,
		component.ExitCode(verify.Run(t.Context(), t.TempDir(), none, programs.OpenLedgers, &out)),
	)
}

// other returns the row with an id that no event has.
func other(t *testing.T, line string) string {
	t.Helper()
	return changed(t, line, "event_id", "nobody")
}

// changed returns the row with another value in a column.
func changed(t *testing.T, line, column string, value any) string {
	t.Helper()
	var e map[string]any
	require.NoError(t, json.Unmarshal([]byte(line), &e))
	e[column] = value
	text, err := json.Marshal(e)
	require.NoError(t, err)
	return string(text) + "\n"
}
