package payload_test

import (
	"encoding/binary"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
	"github.com/withobsrvr/sluice/interceptors/internal/payload"
)

func dictionaryRecord(t testing.TB) (*arrow.Schema, arrow.RecordBatch) {
	dt := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	b := array.NewDictionaryBuilder(memory.DefaultAllocator, dt).(*array.BinaryDictionaryBuilder)
	defer b.Release()
	for _, s := range []string{"a", "b", "a"} {
		require.NoError(t, b.AppendString(s))
	}
	column := b.NewArray()
	schema := arrow.NewSchema([]arrow.Field{{Name: "d", Type: dt}}, nil)
	return schema, array.NewRecordBatch(schema, []arrow.Array{column}, 3)
}

func TestPeekReadsWhatArrowWrites(t *testing.T) {
	for name, opts := range map[string][]ipc.Option{"plain": nil, "zstd": {ipc.WithZstd()}, "lz4": {ipc.WithLZ4()}} {
		t.Run(name, func(t *testing.T) {
			sent := interceptorstest.Batches(t, 2, 1000, opts...)
			require.Len(t, sent, 3)
			p, ok := payload.Peek(sent[0])
			require.True(t, ok)
			require.Equal(t, payload.Schema, p.Kind)
			p, _ = payload.Peek(sent[2])
			require.Equal(t, payload.RecordBatch, p.Kind)
			require.EqualValues(t, 1000, p.Rows)
			require.Equal(t, len(opts) > 0, p.Compressed)
			require.False(t, p.Malformed)
			require.EqualValues(t, 8000, p.Uncompressed)
			require.EqualValues(t, len(sent[2].DataHeader)+len(sent[2].DataBody), p.Bytes)
		})
	}
}

func TestPeekCountsDictionariesAsNoBatch(t *testing.T) {
	schema, record := dictionaryRecord(t)
	var kinds []payload.Kind
	for _, m := range interceptorstest.Encode(t, schema, 2, record) {
		p, _ := payload.Peek(m)
		kinds = append(kinds, p.Kind)
		if p.Kind == payload.Dictionary {
			require.Zero(t, p.Rows)
		}
	}
	require.Equal(t, []payload.Kind{payload.Schema, payload.Dictionary, payload.RecordBatch, payload.RecordBatch}, kinds)
}

func TestPeekOfWhatIsNoFlightData(t *testing.T) {
	_, ok := payload.Peek(&flight.Ticket{})
	require.False(t, ok)
	p, ok := payload.Peek(&flight.FlightData{AppMetadata: []byte("checkpoint")})
	require.True(t, ok)
	require.Equal(t, payload.Payload{Kind: payload.None, Bytes: 10}, p)
}

func TestPeekAllocatesNothing(t *testing.T) {
	sent := interceptorstest.Batches(t, 1, 1000, ipc.WithZstd())
	require.Zero(t, testing.AllocsPerRun(100, func() { payload.Peek(sent[1]) }))
}

func TestPeekClampsHostileClaims(t *testing.T) {
	m := interceptorstest.Batches(t, 1, 1000, ipc.WithZstd())[1]
	claim := func(v int64) payload.Payload {
		// The values' buffer is the only one with bytes, and starts the body.
		binary.LittleEndian.PutUint64(m.DataBody, uint64(v))
		p, _ := payload.Peek(m)
		return p
	}
	require.EqualValues(t, 1<<50, claim(1<<50).Uncompressed)
	require.True(t, claim(-5).Malformed)
	require.False(t, claim(-1).Malformed)
	require.LessOrEqual(t, claim(-1).Uncompressed, int64(len(m.DataBody)-8))
}

// Every truncation, and every byte changed: no panic, and no size below zero.
func TestPeekSurvivesTruncationAndMutation(t *testing.T) {
	for _, m := range append(interceptorstest.Batches(t, 1, 10, ipc.WithZstd()), interceptorstest.Batches(t, 1, 10)...) {
		for n := range m.DataHeader {
			sane(t, m.DataHeader[:n], m.DataBody)
		}
		for i := range m.DataHeader {
			for _, b := range []byte{0, 1, 0x7f, 0x80, 0xff} {
				h := append([]byte(nil), m.DataHeader...)
				h[i] = b
				sane(t, h, m.DataBody)
			}
		}
		for n := range m.DataBody {
			sane(t, m.DataHeader, m.DataBody[:n])
		}
	}
}

func sane(t testing.TB, header, body []byte) {
	p, ok := payload.Peek(&flight.FlightData{DataHeader: header, DataBody: body})
	if !ok || p.Rows < 0 || p.Uncompressed < 0 || p.Bytes != int64(len(header)+len(body)) {
		t.Fatalf("insane: %+v", p)
	}
}

func FuzzPeek(f *testing.F) {
	for _, m := range append(interceptorstest.Batches(f, 1, 10, ipc.WithZstd()), interceptorstest.Batches(f, 1, 10)...) {
		f.Add(m.DataHeader, m.DataBody)
	}
	schema, record := dictionaryRecord(f)
	for _, m := range interceptorstest.Encode(f, schema, 1, record, ipc.WithLZ4()) {
		f.Add(m.DataHeader, m.DataBody)
	}
	f.Fuzz(func(t *testing.T, header, body []byte) { sane(t, header, body) })
}
