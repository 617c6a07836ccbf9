package events_test

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// The schema is a promise to whoever reads the files; a change here is a change
// of the version in its metadata.
func TestSchema(t *testing.T) {
	var got []string
	for _, f := range events.Schema.Fields() {
		line := f.Name + " " + f.Type.String()
		if f.Nullable {
			line += " null"
		}
		got = append(got, line)
	}
	require.Equal(t, []string{
		"event_id utf8",
		"ledger_sequence uint32",
		"closed_at timestamp[us, tz=UTC]",
		"tx_hash utf8",
		"tx_index uint32",
		"op_index uint32 null",
		"ordinal uint32",
		"event_type utf8",
		"contract utf8",
		"asset_type utf8",
		"asset_code utf8 null",
		"asset_issuer utf8 null",
		"from_address utf8 null",
		"to_address utf8 null",
		"amount utf8",
		"amount_decimal decimal(38, 0) null",
		"to_muxed_type utf8 null",
		"to_muxed utf8 null",
	}, got)
}

func TestBatchesKeepEveryField(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	b := events.NewBuilder(mem)
	defer b.Release()
	for _, out := range sample(t, 2) {
		for i := range out.Events {
			require.NoError(t, b.Append(&out.Events[i]))
		}
		require.Equal(t, len(out.Events), b.Rows())
		require.Positive(t, b.Bytes())
		rec := b.NewRecordBatch()
		got, err := events.Decode(rec)
		rec.Release()
		require.NoError(t, err)
		require.Equal(t, out.Events, got)
		require.Zero(t, b.Rows())
		require.Zero(t, b.Bytes())
	}
	empty := b.NewRecordBatch()
	defer empty.Release()
	require.Zero(t, empty.NumRows())
}

func TestAmounts(t *testing.T) {
	for amount, want := range map[string]string{
		"0":                                      "0",
		"-60309":                                 "-60309",
		"9223372036854775807":                    "9223372036854775807",
		"-9223372036854775808":                   "-9223372036854775808",
		"9223372036854775808":                    "9223372036854775808",
		"99999999999999999999999999999999999999": "99999999999999999999999999999999999999",
		"-99999999999999999999999999999999999999":  "-99999999999999999999999999999999999999",
		"100000000000000000000000000000000000000":  "", // 39 digits
		"-100000000000000000000000000000000000000": "",
		"170141183460469231731687303715884105727":  "", // the largest i128
		"-170141183460469231731687303715884105728": "", // the smallest
		"340282366920938463463374607431768211456":  "", // beyond i128
	} {
		b := events.NewBuilder(nil)
		require.NoError(t, b.Append(&events.Event{Amount: amount}))
		rec := b.NewRecordBatch()
		require.Equal(t, amount, rec.Column(14).(*array.String).Value(0))
		decimals := rec.Column(15).(*array.Decimal128)
		require.Equal(t, want == "", decimals.IsNull(0), amount)
		if want != "" {
			require.Equal(t, want, decimals.Value(0).BigInt().String())
		}
		rec.Release()
		b.Release()
	}
	b := events.NewBuilder(nil)
	defer b.Release()
	for _, bad := range []string{"", "1.5", "x", "0x10", "1e3"} {
		require.ErrorContains(t, b.Append(&events.Event{ID: "id-7", Amount: bad}), "id-7", bad)
	}
	require.Zero(t, b.Rows(), "a failed Append adds nothing")
}

func TestEmptyTextIsNotNull(t *testing.T) {
	b := events.NewBuilder(nil)
	defer b.Release()
	require.NoError(t, b.Append(&events.Event{Amount: "1", ToMuxedType: events.MuxedText}))
	require.NoError(t, b.Append(&events.Event{Amount: "1"}))
	rec := b.NewRecordBatch()
	defer rec.Release()
	require.False(t, rec.Column(17).IsNull(0))
	require.True(t, rec.Column(17).IsNull(1))
}

func TestDecodeRefusesAnotherSchema(t *testing.T) {
	other := arrow.NewSchema([]arrow.Field{{Name: "x", Type: arrow.PrimitiveTypes.Int64}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, other)
	defer b.Release()
	rec := b.NewRecordBatch()
	defer rec.Release()
	_, err := events.Decode(rec)
	require.ErrorContains(t, err, "1 columns, want 18")

	fields := events.Schema.Fields()
	fields[3].Type = arrow.PrimitiveTypes.Int8
	require.ErrorContains(t, events.CheckSchema(arrow.NewSchema(fields, nil)),
		"column 3 is tx_hash int8, want tx_hash utf8")
}

func TestBatchInfo(t *testing.T) {
	info := events.BatchInfo{Ledger: 53312000, Transactions: 163, Events: 296, Last: true}
	require.JSONEq(t, `{"ledger":53312000,"transactions":163,"events":296,"last":true}`, string(info.Marshal()))
	got, err := events.ParseBatchInfo(info.Marshal())
	require.NoError(t, err)
	require.Equal(t, info, got)
	for _, bad := range []string{"", "{}", "[]", `{"ledger":-1}`, `{"ledger":1,"events":-1}`, `{"ledger":1}{}`} {
		_, err := events.ParseBatchInfo([]byte(bad))
		require.ErrorContains(t, err, "events: batch metadata", bad)
	}
}

// What the events of one ledger cost to put into a batch.
func BenchmarkBuild(b *testing.B) {
	rows := sample(b, 2)[1].Events
	builder := events.NewBuilder(nil)
	defer builder.Release()
	b.ReportAllocs()
	for b.Loop() {
		for i := range rows {
			if err := builder.Append(&rows[i]); err != nil {
				b.Fatal(err)
			}
		}
		builder.NewRecordBatch().Release()
	}
	b.ReportMetric(float64(b.N*len(rows))/b.Elapsed().Seconds(), "events/s")
}

// sample extracts the sample's first n ledgers.
func sample(t testing.TB, n uint32) (all []events.Extracted) {
	t.Helper()
	src, err := ledgers.NewSample(n)
	require.NoError(t, err)
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	for out, err := range extract.Direct(t.Context(), src, bounds) {
		require.NoError(t, err)
		all = append(all, out)
	}
	return all
}
