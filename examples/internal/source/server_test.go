package source_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stellar/go-stellar-sdk/network"
	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/ledgerstest"
	"github.com/withobsrvr/sluice/examples/internal/source"
)

func TestDoGetServesTheLedgersByteForByte(t *testing.T) {
	src := ledgerstest.Sample(t, 5)
	client, srv := connect(t, src, source.Config{FlushAfter: -1})
	got, err := read(t, client, ticket(53312001, 53312004))
	require.NoError(t, err)
	require.Equal(t, network.PublicNetworkPassphrase, got.passphrase)
	i := 0
	for want, err := range src.Ledgers(t.Context(), ledgers.Range{First: 53312001, Last: 53312004}) {
		require.NoError(t, err)
		require.Equal(t, want.Sequence, got.rows[i].sequence)
		require.True(t, bytes.Equal(want.Raw, got.rows[i].xdr))
		i++
	}
	require.Equal(t, 4, len(got.rows))
	st := srv.Counters()
	require.Equal(t, int64(4), st.Ledgers)
	require.Equal(t, int64(2*163+2*249), st.Transactions)
	require.Equal(t, uint32(53312004), st.LastLedger)
	require.Zero(t, st.Errors)
}

// The columns beside the XDR agree with the SDK's full decoding.
func TestColumns(t *testing.T) {
	client, _ := connect(t, ledgerstest.Sample(t, 2), source.Config{})
	get, err := client.DoGet(t.Context(), &flight.Ticket{Ticket: ticket(53312000, 53312001)})
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(get)
	require.NoError(t, err)
	defer reader.Release()
	rows := 0
	for reader.Next() {
		rec := reader.RecordBatch()
		for i := range int(rec.NumRows()) {
			var lcm xdr.LedgerCloseMeta
			raw := rec.Column(11).(*array.Binary).Value(i)
			require.NoError(t, xdr.SafeUnmarshal(raw, &lcm))
			uints := func(col int) uint32 { return rec.Column(col).(*array.Uint32).Value(i) }
			require.Equal(t, lcm.LedgerSequence(), uints(0))
			require.Equal(t, lcm.LedgerCloseTime()*1e6, int64(rec.Column(1).(*array.Timestamp).Value(i)))
			require.Equal(t, lcm.LedgerHash().HexString(), rec.Column(2).(*array.String).Value(i))
			require.Equal(t, lcm.PreviousLedgerHash().HexString(), rec.Column(3).(*array.String).Value(i))
			require.Equal(t, lcm.ProtocolVersion(), uints(4))
			require.Equal(t, uint32(lcm.CountTransactions()), uints(5))
			var ok, ops uint32
			for k := range lcm.CountTransactions() {
				pair := lcm.TransactionResultPair(k)
				if pair.Result.Successful() {
					ok++
				}
				results, _ := pair.Result.OperationResults()
				ops += uint32(len(results))
			}
			require.Equal(t, ok, uints(6))
			require.Equal(t, ops, uints(7))
			require.Equal(t, int64(len(raw)), rec.Column(8).(*array.Int64).Value(i))
			require.Equal(t, uint32(1), uints(10))
			rows++
		}
	}
	require.NoError(t, reader.Err())
	require.Equal(t, 2, rows)
}

func TestBatchesAreCutByBytesAndByRows(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  source.Config
		rows []int64
	}{
		"by bytes":     {source.Config{BatchBytes: 2 << 20}, []int64{3, 2, 1}},
		"by rows":      {source.Config{BatchBytes: 3 << 20, BatchRows: 2}, []int64{2, 2, 2}},
		"one by one":   {source.Config{BatchRows: 1}, []int64{1, 1, 1, 1, 1, 1}},
		"big in parts": {source.Config{BatchBytes: 500_000}, []int64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.cfg.FlushAfter = -1
			client, _ := connect(t, ledgerstest.Sample(t, 6), tc.cfg)
			got, err := read(t, client, ticket(53312000, 53312005))
			require.NoError(t, err)
			require.Equal(t, 6, len(got.rows))
			require.Equal(t, tc.rows, got.batchRows)
			for _, size := range got.batchBytes {
				require.LessOrEqual(t, size, 3<<20)
			}
		})
	}
}

// A ledger above gRPC's default limit of 4 MiB arrives through a client and a
// server that never raised it.
func TestBigLedgersPassTheDefaultLimit(t *testing.T) {
	src := ledgerstest.GrownAt(ledgerstest.Sample(t, 3), 53312001, 9<<20)
	client, _ := connect(t, src, source.Config{})
	got, err := read(t, client, ticket(53312000, 53312002))
	require.NoError(t, err)
	require.Equal(t, 3, len(got.rows))
	require.Equal(t, uint32(5), got.rows[1].parts)
	require.GreaterOrEqual(t, len(got.rows[1].xdr), 9<<20)
	var lcm xdr.LedgerCloseMeta
	require.NoError(t, xdr.SafeUnmarshal(got.rows[1].xdr, &lcm))
	require.Equal(t, uint32(53312001), lcm.LedgerSequence())
}

func TestFlightInfoCanBeReadEndpointByEndpoint(t *testing.T) {
	client, _ := connect(t, ledgerstest.Sample(t, 10), source.Config{Layout: flights.Layout{LedgersPerEndpoint: 3}})
	info, err := client.GetFlightInfo(t.Context(), flights.Descriptor("ledgers"))
	require.NoError(t, err)
	r, err := flights.ParseBounds(info)
	require.NoError(t, err)
	require.Equal(t, ledgers.Range{First: 53312000, Last: 53312009}, r)
	require.Len(t, info.Endpoint, 4)
	next := uint32(53312000)
	for _, e := range info.Endpoint {
		got, err := read(t, client, e.Ticket.Ticket)
		require.NoError(t, err)
		for _, row := range got.rows {
			require.Equal(t, next, row.sequence)
			next++
		}
	}
	require.Equal(t, uint32(53312010), next)

	part := ledgers.Ticket{Flight: "ledgers", Range: ledgers.Range{First: 53312002, Last: 53312003}}
	info, err = client.GetFlightInfo(t.Context(), flights.RangeDescriptor(part))
	require.NoError(t, err)
	require.Len(t, info.Endpoint, 1)
}

func TestListFlightsSchemaAndActions(t *testing.T) {
	client, _ := connect(t, ledgerstest.Sample(t, 2), source.Config{})
	for criteria, want := range map[string]int{"": 1, "ledgers": 1, "other": 0} {
		list, err := client.ListFlights(t.Context(), &flight.Criteria{Expression: []byte(criteria)})
		require.NoError(t, err)
		n := 0
		for {
			info, err := list.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.Equal(t, []string{"ledgers"}, info.FlightDescriptor.Path)
			n++
		}
		require.Equal(t, want, n)
	}

	result, err := client.GetSchema(t.Context(), flights.Descriptor("ledgers"))
	require.NoError(t, err)
	schema, err := flight.DeserializeSchema(result.Schema, memory.DefaultAllocator)
	require.NoError(t, err)
	require.True(t, source.Schema(network.PublicNetworkPassphrase).Equal(schema))
	_, err = client.GetSchema(t.Context(), flights.Descriptor("other"))
	require.Equal(t, codes.NotFound, status.Code(err))

	actions, err := client.ListActions(t.Context(), &flight.Empty{})
	require.NoError(t, err)
	kind, err := actions.Recv()
	require.NoError(t, err)
	require.Equal(t, "get_status", kind.Type)

	_, err = read(t, client, ticket(53312000, 53312001))
	require.NoError(t, err)
	do, err := client.DoAction(t.Context(), &flight.Action{Type: "get_status"})
	require.NoError(t, err)
	res, err := do.Recv()
	require.NoError(t, err)
	var st source.Status
	require.NoError(t, json.Unmarshal(res.Body, &st))
	require.Equal(t, "sample", st.Source)
	require.Equal(t, []int64{2, 412}, []int64{st.Ledgers, st.Transactions})
	require.Equal(t, []uint32{53312000, 53312001}, []uint32{st.Start, st.End})

	do, err = client.DoAction(t.Context(), &flight.Action{Type: "format_disk"})
	require.NoError(t, err)
	_, err = do.Recv()
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestErrorsHaveTheirCodes(t *testing.T) {
	sample := ledgerstest.Sample(t, 5)
	backend := &ledgers.Error{Sequence: 53312002, Kind: ledgers.ErrBackend, Err: errors.New("connection refused")}
	for name, tc := range map[string]struct {
		src    ledgers.Source
		ticket []byte
		want   codes.Code
		text   string
		rows   int
	}{
		"no ticket": {sample, nil, codes.InvalidArgument, "ticket", 0},
		"garbage":   {sample, []byte("\xff\x00"), codes.InvalidArgument, "ticket", 0},
		"another flight": {
			sample, []byte(`{"flight":"ttp_events","start":53312000,"end":53312000}`), codes.InvalidArgument,
			"ttp_events", 0,
		},
		"empty range": {sample, ticket(53312001, 53312000), codes.InvalidArgument, "empty range", 0},
		"absent":      {sample, ticket(53312000, 53312005), codes.NotFound, "ledger 53312005", 0},
		"far away":    {sample, ticket(7, 8), codes.NotFound, "ledger 7", 0},
		"cut off": {
			ledgerstest.CutAt(sample, 53312002, 1000), ticket(53312000, 53312004), codes.DataLoss,
			"ledger 53312002", 2,
		},
		"mislabelled": {
			ledgerstest.MislabelledAt(sample, 53312000), ticket(53312000, 53312004), codes.DataLoss,
			"ledger 53312001", 0,
		},
		"backend": {
			ledgerstest.FailsAt(sample, 53312002, backend), ticket(53312000, 53312004),
			codes.Unavailable, "ledger 53312002: ledger backend failed: connection refused", 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, srv := connect(t, tc.src, source.Config{BatchRows: 1, FlushAfter: -1})
			got, err := read(t, client, tc.ticket)
			require.Equal(t, tc.want, status.Code(err), err)
			require.ErrorContains(t, err, tc.text)
			require.Equal(t, tc.rows, len(got.rows))
			require.Equal(t, int64(1), srv.Counters().Errors)
		})
	}
}

// What cannot be served fails without a header, so that gRPC may retry it.
func TestRefusalsAreTrailersOnly(t *testing.T) {
	client, _ := connect(t, ledgerstest.Sample(t, 1), source.Config{})
	get, err := client.DoGet(t.Context(), &flight.Ticket{Ticket: ticket(1, 1)})
	require.NoError(t, err)
	header, err := get.Header()
	require.NoError(t, err)
	require.Empty(t, header)
	_, err = get.Recv()
	require.Equal(t, codes.NotFound, status.Code(err))
}

func TestSlowSourcesAreSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := connect(t, ledgerstest.Slow(ledgerstest.Sample(t, 4), 5*time.Second), source.Config{})
		began := time.Now()
		got, err := read(t, client, ticket(53312000, 53312003))
		require.NoError(t, err)
		require.Equal(t, []int64{1, 1, 1, 1}, got.batchRows)
		require.Equal(t, 20*time.Second, time.Since(began))
	})
}

// A client that goes away in the middle ends the stream, and a client that does
// not read stops the reading. The bubble's end proves that no goroutine stays.
func TestClientsDecideThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, srv := connect(t, ledgerstest.Sample(t, 10_000), source.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		get, err := client.DoGet(ctx, &flight.Ticket{Ticket: ticket(53312000, 53321999)})
		require.NoError(t, err)
		_, err = get.Recv()
		require.NoError(t, err)
		synctest.Wait()
		st := srv.Counters()
		require.Less(t, st.Ledgers, int64(50), "it read no further than the windows of the transport allow")
		require.Equal(t, int64(1), st.ActiveStreams)
		cancel()
		synctest.Wait()
		st = srv.Counters()
		require.Zero(t, st.ActiveStreams)
		require.Equal(t, int64(1), st.Cancelled)
		require.Zero(t, st.Errors)
	})
}

func TestConfig(t *testing.T) {
	src := ledgerstest.Sample(t, 1)
	_, err := source.New(src, source.Config{BatchBytes: 4 << 20, BatchRows: -1})
	require.ErrorContains(t, err, "BatchBytes is 4194304, want 1 to 3145728")
	require.ErrorContains(t, err, "BatchRows is -1")
}

func FuzzDoGetTicket(f *testing.F) {
	client, _ := connect(f, ledgerstest.Sample(f, 3), source.Config{})
	f.Add([]byte(`{"flight":"ledgers","start":53312000,"end":53312001}`))
	f.Add([]byte(`{"flight":"ledgers","start":1,"end":4294967295}`))
	f.Add([]byte(`{"flight":"ttp_events","start":53312000,"end":53312001}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := read(t, client, b)
		switch status.Code(err) {
		case codes.OK, codes.InvalidArgument, codes.NotFound:
		default:
			t.Fatalf("ticket %q: %v", b, err)
		}
	})
}
