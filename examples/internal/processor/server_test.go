package processor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/flights"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/ledgerstest"
	"github.com/withobsrvr/sluice/examples/internal/processor"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/flowcontrol"
)

const first = ledgers.SampleFirst

func stage(t testing.TB, limit flowcontrol.Cost) *flowcontrol.Throttler {
	t.Helper()
	s, err := flowcontrol.New(flowcontrol.Config{Name: "test", Limit: limit})
	require.NoError(t, err)
	return s
}

// same proves that the batches are exactly what the SDK says of the range.
func same(t *testing.T, src ledgers.Source, r ledgers.Range, got []batch, maxRows int) {
	t.Helper()
	i := 0
	for want, err := range extract.Direct(t.Context(), src, r) {
		require.NoError(t, err)
		var rows []events.Event
		for last := false; !last; i++ {
			require.Less(t, i, len(got))
			info := got[i].info
			require.Equal(
				t,
				events.BatchInfo{
					Ledger:       want.Sequence,
					Transactions: want.Transactions,
					Events:       len(want.Events),
					Last:         info.Last,
					Entered:      info.Entered,
				},
				info,
			)
			require.Positive(t, info.Entered)
			require.LessOrEqual(t, len(got[i].rows), maxRows)
			rows = append(rows, got[i].rows...)
			last = info.Last
		}
		require.Equal(t, want.Events, rows)
	}
	require.Equal(t, len(got), i)
}

func TestEventsAreThoseOfTheSDKInOrder(t *testing.T) {
	src := ledgerstest.Sample(t, 5)
	for name, tc := range map[string]struct {
		source  source.Config
		cfg     processor.Config
		maxRows int
	}{
		"defaults":          {source.Config{}, processor.Config{}, 4096},
		"one worker":        {source.Config{}, processor.Config{Workers: 1, QueueBatches: 1}, 4096},
		"many workers":      {source.Config{BatchRows: 1}, processor.Config{Workers: 8}, 4096},
		"small batches":     {source.Config{}, processor.Config{BatchRows: 100}, 100},
		"batches by bytes":  {source.Config{}, processor.Config{BatchBytes: 50_000}, 200},
		"one batch at once": {source.Config{}, processor.Config{Stage: stage(t, flowcontrol.Cost{Messages: 1})}, 4096},
		"ledgers in parts":  {source.Config{BatchBytes: 100_000}, processor.Config{}, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, src, tc.source, tc.cfg)
			got, err := readAll(t, p.client, first+1, first+4)
			require.NoError(t, err)
			same(t, src, ledgers.Range{First: first + 1, Last: first + 4}, got, tc.maxRows)
			require.Zero(t, p.processor.Stage().InFlight())
			st := p.processor.Counters()
			require.Equal(
				t,
				[]int64{4, 2 * 412, 2 * 962, 0, 0},
				[]int64{st.Ledgers, st.Transactions, st.Events, st.Errors, st.Queued},
			)
		})
	}
}

func TestTheTruthOverFlight(t *testing.T) {
	p := start(t, ledgerstest.Sample(t, 2), source.Config{}, processor.Config{})
	got, err := readAll(t, p.client, first, first+1)
	require.NoError(t, err)
	counts, transactions := map[string]int{}, 0
	for _, b := range got {
		if b.info.Last {
			transactions += b.info.Transactions
		}
		for _, e := range b.rows {
			counts[e.Type]++
		}
	}
	require.Equal(t, 412, transactions)
	require.Equal(t, map[string]int{"fee": 514, "transfer": 425, "mint": 13, "burn": 10}, counts)
}

// TestTheTimeOfReadingTravels from the source to whoever reads the events, with
// ledgers that come in parts too.
func TestTheTimeOfReadingTravels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		src := ledgerstest.GrownAt(ledgerstest.Sample(t, 3), first+1, 9<<20)
		p := start(t, src, source.Config{BatchRows: 1}, processor.Config{StallTimeout: -1})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		read, err := open(t, ctx, p.client, first, first+2)
		require.NoError(t, err)
		time.Sleep(time.Minute) // what was sent waits
		for ledger := range uint32(3) {
			for last := false; !last; {
				b, err := read()
				require.NoError(t, err)
				require.Equal(t, first+ledger, b.info.Ledger)
				require.Equal(t, began.UnixNano(), b.info.Entered, "it was read at once")
				last = b.info.Last
			}
		}
	})
}

// A ledger of which the XDR alone exceeds gRPC's default limit passes both hops.
func TestBigLedgers(t *testing.T) {
	plain := ledgerstest.Sample(t, 3)
	p := start(t, ledgerstest.GrownAt(plain, first+1, 9<<20), source.Config{}, processor.Config{})
	got, err := readAll(t, p.client, first, first+2)
	require.NoError(t, err)
	same(t, plain, ledgers.Range{First: first, Last: first + 2}, got, 4096)

	p = start(t, ledgerstest.GrownAt(plain, first+1, 9<<20), source.Config{}, processor.Config{MaxLedgerBytes: 8 << 20})
	got, err = readAll(t, p.client, first, first+2)
	require.ErrorContains(t, err, fmt.Sprintf("ledger %d: ", first+1))
	require.ErrorContains(t, err, "want at most 8388608")
	require.Equal(t, first, got[len(got)-1].info.Ledger)
}

func TestErrorsNameTheLedgerAndComeAfterTheLedgersBefore(t *testing.T) {
	sample := ledgerstest.Sample(t, 6)
	for name, tc := range map[string]struct {
		src     ledgers.Source
		ledgers int
		code    codes.Code
		text    string
	}{
		"does not decode": {ledgerstest.CutAt(sample, first+3, -4), 3, codes.DataLoss, fmt.Sprintf("ledger %d: events cannot be extracted", first+3)},
		"corrupt at the source": {
			ledgerstest.CutAt(sample, first+3, 1000), 3, codes.DataLoss, fmt.Sprintf("ledger %d: ledger corrupt", first+3),
		},
		"backend fails": {
			ledgerstest.FailsAt(sample, first+3, &ledgers.Error{Sequence: first + 3, Kind: ledgers.ErrBackend, Err: errors.New("connection refused")}),
			3, codes.Unavailable, fmt.Sprintf("ledger %d: ledger backend failed: connection refused", first+3),
		},
		"ends too early":  {ledgerstest.Ends(sample, first+3), 3, codes.Internal, fmt.Sprintf("the source ended before ledger %d", first+3)},
		"fails at once":   {ledgerstest.FailsAt(sample, first, errors.New("no")), 0, codes.Internal, "no"},
		"ends at once":    {ledgerstest.Ends(sample, first), 0, codes.Internal, fmt.Sprintf("the source ended before ledger %d", first)},
		"decodes nothing": {ledgerstest.CutAt(sample, first, -4), 0, codes.DataLoss, fmt.Sprintf("ledger %d", first)},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, tc.src, source.Config{}, processor.Config{})
			got, err := readAll(t, p.client, first, first+5)
			require.Equal(t, tc.code, status.Code(err), err)
			require.ErrorContains(t, err, tc.text)
			if tc.ledgers > 0 {
				same(t, sample, ledgers.Range{First: first, Last: first + uint32(tc.ledgers) - 1}, got, 4096)
			} else {
				require.Empty(t, got)
			}
			require.Equal(t, int64(1), p.processor.Counters().Errors)
			require.Zero(t, p.processor.Stage().InFlight())
		})
	}
}

func TestRefusals(t *testing.T) {
	p := start(t, ledgerstest.Sample(t, 2), source.Config{}, processor.Config{})
	for name, tc := range map[string]struct {
		ticket string
		want   codes.Code
	}{
		"no ticket":      {"", codes.InvalidArgument},
		"another flight": {`{"flight":"ledgers","start":53312000,"end":53312000}`, codes.InvalidArgument},
		"empty range":    {`{"flight":"ttp_events","start":53312001,"end":53312000}`, codes.InvalidArgument},
		"absent ledger":  {`{"flight":"ttp_events","start":53312000,"end":53312002}`, codes.NotFound},
		"far away":       {`{"flight":"ttp_events","start":0,"end":4294967295}`, codes.NotFound},
	} {
		t.Run(name, func(t *testing.T) {
			get, err := p.client.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(tc.ticket)})
			require.NoError(t, err)
			header, err := get.Header()
			require.NoError(t, err)
			require.Empty(t, header, "a refusal is trailers only, so that gRPC may retry it")
			_, err = get.Recv()
			require.Equal(t, tc.want, status.Code(err), err)
		})
	}
}

func TestASourceThatIsAway(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nowhere",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	srv, err := processor.New(processor.Config{Source: conn})
	require.NoError(t, err)
	_, err = srv.GetFlightInfo(t.Context(), flights.Descriptor("ttp_events"))
	require.Equal(t, codes.Unavailable, status.Code(err), err)
	require.ErrorContains(t, err, "nobody is there")
	_, err = srv.GetSchema(t.Context(), flights.Descriptor("ttp_events"))
	require.NoError(t, err, "the schema needs no source")

	_, err = readAll(t, flight.NewClientFromConn(serve(t, srv), nil), first, first)
	require.Equal(t, codes.Unavailable, status.Code(err), err)
}

func TestFlightInfoAndActions(t *testing.T) {
	src := ledgerstest.Sample(t, 7)
	p := start(t, src, source.Config{}, processor.Config{Layout: flights.Layout{LedgersPerEndpoint: 3}})
	info, err := p.client.GetFlightInfo(t.Context(), flights.Descriptor("ttp_events"))
	require.NoError(t, err)
	r, err := flights.ParseBounds(info)
	require.NoError(t, err)
	require.Equal(t, ledgers.Range{First: first, Last: first + 6}, r)
	require.Len(t, info.Endpoint, 3)
	var all []batch
	for _, e := range info.Endpoint {
		ticket, err := ledgers.ParseTicket(e.Ticket.Ticket)
		require.NoError(t, err)
		got, err := readAll(t, p.client, ticket.Range.First, ticket.Range.Last)
		require.NoError(t, err)
		all = append(all, got...)
	}
	same(t, src, r, all, 4096)

	list, err := p.client.ListFlights(t.Context(), &flight.Criteria{})
	require.NoError(t, err)
	info, err = list.Recv()
	require.NoError(t, err)
	require.Equal(t, []string{"ttp_events"}, info.FlightDescriptor.Path)
	_, err = list.Recv()
	require.ErrorIs(t, err, io.EOF)

	_, err = p.client.GetFlightInfo(t.Context(), flights.Descriptor("ledgers"))
	require.Equal(t, codes.NotFound, status.Code(err))
	result, err := p.client.GetSchema(t.Context(), flights.Descriptor("ttp_events"))
	require.NoError(t, err)
	schema, err := flight.DeserializeSchema(result.Schema, memory.DefaultAllocator)
	require.NoError(t, err)
	require.True(t, events.Schema.Equal(schema))

	do, err := p.client.DoAction(t.Context(), &flight.Action{Type: "get_status"})
	require.NoError(t, err)
	res, err := do.Recv()
	require.NoError(t, err)
	var st processor.Status
	require.NoError(t, json.Unmarshal(res.Body, &st))
	require.Equal(t, int64(7), st.Ledgers)
	require.Equal(t, first+6, st.LastLedger)
	require.Positive(t, st.MeanLatency)
}

// A consumer that does not read fills the stage to its limit and no further;
// when it reads on, everything arrives and the stage empties.
func TestASlowConsumerFillsTheStageAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := ledgerstest.Sample(t, 400)
		gate := stage(t, flowcontrol.Cost{Messages: 6, Bytes: 64 << 20})
		p := start(
			t,
			src,
			source.Config{BatchRows: 1},
			processor.Config{Stage: gate, Workers: 2, StreamShare: 1, StallTimeout: -1},
		)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		read, err := open(t, ctx, p.client, first, first+199)
		require.NoError(t, err)
		b, err := read()
		require.NoError(t, err)
		require.Equal(t, first, b.info.Ledger)
		time.Sleep(time.Minute) // everything that can go on has gone on
		synctest.Wait()
		require.Equal(t, int64(6), gate.InFlight().Messages)
		require.Equal(t, 1.0, gate.Load())
		held := p.source.Counters().Ledgers
		require.Less(t, held, int64(100), "the source is held back by HTTP/2")
		time.Sleep(time.Minute)
		require.Equal(t, held, p.source.Counters().Ledgers)

		next := first + 1
		for next <= first+12 {
			b, err := read()
			require.NoError(t, err)
			require.Equal(t, next, b.info.Ledger)
			require.LessOrEqual(t, gate.InFlight().Messages, int64(6))
			if b.info.Last {
				next++
			}
		}

		// A consumer that goes away ends everything, the source's stream too.
		cancel()
		synctest.Wait()
		require.Zero(t, gate.InFlight())
		require.Zero(t, p.processor.Counters().ActiveStreams)
		require.Zero(t, p.processor.Counters().Queued)
		require.Equal(t, int64(1), p.processor.Counters().Cancelled)
		require.Zero(t, p.processor.Counters().Errors)
		require.Zero(t, p.source.Counters().ActiveStreams)
	})
}

// A stage that is full is no error, for a stream with a deadline neither.
func TestAStreamWithADeadlineWaitsForTheStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := stage(t, flowcontrol.Cost{Messages: 1})
		p := start(t, ledgerstest.Sample(t, 4), source.Config{BatchRows: 1}, processor.Config{Stage: gate})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		blocker, err := gate.Acquire(ctx, flowcontrol.Cost{Messages: 1})
		require.NoError(t, err)
		go func() {
			time.Sleep(50 * time.Minute)
			blocker.Release(flowcontrol.Success)
		}()
		read, err := open(t, ctx, p.client, first, first+3)
		require.NoError(t, err)
		for next := first; next <= first+3; next++ {
			b, err := read()
			require.NoError(t, err)
			require.Equal(t, next, b.info.Ledger)
		}
		_, err = read()
		require.ErrorIs(t, err, io.EOF)
	})
}

// Several streams share the stage; each gets through.
func TestStreamsShareTheStage(t *testing.T) {
	src := ledgerstest.Sample(t, 12)
	gate := stage(t, flowcontrol.Cost{Messages: 2})
	p := start(t, src, source.Config{BatchRows: 1}, processor.Config{Stage: gate, Workers: 2})
	type result struct {
		got []batch
		err error
	}
	results := make(chan result)
	for i := range uint32(3) {
		go func() {
			got, err := readAll(t, p.client, first+4*i, first+4*i+3)
			results <- result{got, err}
		}()
	}
	total := 0
	for range 3 {
		r := <-results
		require.NoError(t, r.err)
		for _, b := range r.got {
			total += len(b.rows)
		}
	}
	require.Equal(t, 6*962, total)
	require.Zero(t, gate.InFlight())
}

func TestDeadlineEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := ledgerstest.Slow(ledgerstest.Sample(t, 100), 5*time.Second)
		p := start(t, src, source.Config{}, processor.Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		read, err := open(t, ctx, p.client, first, first+99)
		require.NoError(t, err)
		for i := range uint32(2) {
			b, err := read()
			require.NoError(t, err)
			require.Equal(t, first+i, b.info.Ledger)
		}
		_, err = read()
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		synctest.Wait()
		require.Zero(t, p.processor.Counters().ActiveStreams)
	})
}

func TestConfig(t *testing.T) {
	_, err := processor.New(processor.Config{Workers: -1, BatchBytes: 4 << 20})
	require.ErrorContains(t, err, "Source is missing")
	require.ErrorContains(t, err, "Workers is -1, want 1 to 1024")
	require.ErrorContains(t, err, "BatchBytes is 4194304, want 1 to 3145728")
}

func FuzzDoGetTicket(f *testing.F) {
	p := start(f, ledgerstest.Sample(f, 1), source.Config{}, processor.Config{})
	f.Add([]byte(`{"flight":"ttp_events","start":53312000,"end":53312000}`))
	f.Add([]byte(`{"flight":"ttp_events","start":1,"end":4294967295}`))
	f.Add([]byte(`{"flight":"ledgers","start":53312000,"end":53312000}`))
	f.Add([]byte("\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, err := openTicket(t, t.Context(), p.client, b)
		switch status.Code(err) {
		case codes.OK, codes.InvalidArgument, codes.NotFound:
		default:
			t.Fatalf("ticket %q: %v", b, err)
		}
	})
}
