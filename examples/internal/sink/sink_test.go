package sink_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/sink"
	"github.com/withobsrvr/sluice/flowcontrol"
)

const first = 1000

// fakeProcessor serves made-up events: ledger n has n%4 of them, so that some
// ledgers have none, in batches of batchRows.
type fakeProcessor struct {
	flight.BaseFlightServer
	batchRows int
	asked     atomic.Int64
	// before runs before each batch is sent and may break the stream.
	before func(ctx context.Context, info events.BatchInfo) error
	// change may falsify what a batch says.
	change func(*events.BatchInfo)
	rows   func(ledger uint32) int
}

func (p *fakeProcessor) eventsOf(ledger uint32) []events.Event {
	n := int(ledger % 4)
	if p.rows != nil {
		n = p.rows(ledger)
	}
	out := make([]events.Event, n)
	for i := range out {
		out[i] = events.Event{
			ID: events.EventID(ledger, 1, 1, uint32(i)), LedgerSequence: ledger, ClosedAt: time.Unix(int64(ledger), 0).UTC(),
			TxHash: "ab", TxIndex: 1, OpIndex: 1, Ordinal: uint32(i), Type: []string{"transfer", "fee", "mint"}[i%3],
			Contract: "C", AssetType: events.AssetNative, From: "GA", To: "GB", Amount: fmt.Sprint(i + 1),
		}
	}
	return out
}

func (p *fakeProcessor) DoGet(t *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	p.asked.Add(1)
	ticket, err := ledgers.ParseTicket(t.GetTicket())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	w := flight.NewRecordWriter(stream, ipc.WithSchema(events.Schema))
	defer w.Close()
	b := events.NewBuilder(nil)
	defer b.Release()
	for ledger := ticket.Range.First; ledger <= ticket.Range.Last; ledger++ {
		all := p.eventsOf(ledger)
		info := events.BatchInfo{Ledger: ledger, Transactions: 2, Events: len(all)}
		parts := slices.Collect(slices.Chunk(all, p.batchRows))
		if len(parts) == 0 {
			parts = [][]events.Event{nil}
		}
		for i, part := range parts {
			for j := range part {
				if err := b.Append(&part[j]); err != nil {
					return err
				}
			}
			rec := b.NewRecordBatch()
			info.Last = i == len(parts)-1
			said := info
			if p.change != nil {
				p.change(&said)
			}
			if p.before != nil {
				if err := p.before(stream.Context(), said); err != nil {
					rec.Release()
					return err
				}
			}
			err := w.WriteWithAppMetadata(rec, said.Marshal())
			rec.Release()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// connect serves p in memory and returns a client.
func connect(t *testing.T, p flight.FlightServer) flight.Client {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	flight.RegisterFlightServiceServer(server, p)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return flight.NewClientFromConn(conn, nil)
}

func gate(t *testing.T, messages int64) *flowcontrol.Throttler {
	t.Helper()
	g, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: messages, Bytes: 64 << 20}})
	require.NoError(t, err)
	return g
}

func config(t *testing.T, p *fakeProcessor, last uint32) sink.Config {
	t.Helper()
	if p.batchRows == 0 {
		p.batchRows = 2
	}
	return sink.Config{
		Client: connect(t, p), Range: ledgers.Range{First: first, Last: last}, Dir: filepath.Join(t.TempDir(), "run"),
		Throttler: gate(t, 16),
	}
}

func run(t *testing.T, cfg sink.Config) (*sink.Sink, error) {
	t.Helper()
	s, err := sink.New(cfg)
	require.NoError(t, err)
	defer s.Close()
	return s, s.Run(t.Context(), nil)
}

// requireWhole proves that the files of dir hold every event up to last once.
func requireWhole(t *testing.T, p *fakeProcessor, dir string, last uint32) {
	t.Helper()
	files, err := sink.Files(dir)
	require.NoError(t, err)
	var want, got []string
	for ledger := uint32(first); ledger <= last; ledger++ {
		for _, e := range p.eventsOf(ledger) {
			want = append(want, e.ID)
		}
	}
	next := uint32(first)
	for _, f := range files {
		require.Equal(t, next, f.Range.First, "files follow each other")
		next = f.Range.Last + 1
		got = append(got, readIDs(t, f)...)
	}
	require.Equal(t, want, got)
	require.Equal(t, last+1, next)
	left, err := os.ReadDir(filepath.Join(dir, ".partial"))
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left aside")
}

func TestSinkWritesEverythingOnce(t *testing.T) {
	for _, format := range sink.Formats {
		t.Run(format, func(t *testing.T) {
			p := &fakeProcessor{}
			cfg := config(t, p, first+99)
			cfg.Format = format
			s, err := run(t, cfg)
			require.NoError(t, err)
			requireWhole(t, p, cfg.Dir, first+99)
			st := s.Status()
			require.True(t, st.Done)
			require.Equal(t, int64(100), st.Ledgers)
			require.Equal(t, int64(200), st.Transactions)
			require.Equal(t, int64(150), st.Events)
			require.Equal(t, map[string]int64{"transfer": 75, "fee": 50, "mint": 25}, st.ByType)
			require.Equal(t, 1, st.Files, "a small run is one file, whatever its stage may hold")
			require.Equal(t, []sink.Total{
				{Type: "fee", Asset: "native", Events: 50, Amount: "100"},
				{Type: "mint", Asset: "native", Events: 25, Amount: "75"},
				{Type: "transfer", Asset: "native", Events: 75, Amount: "75"},
			}, s.Totals())
			require.Zero(t, cfg.Throttler.InFlight(), "every permit came back")
			cp, err := sink.ReadCheckpoint(cfg.Dir)
			require.NoError(t, err)
			require.Len(t, cp.Files, st.Files)
			require.Positive(t, cp.Bytes)
		})
	}
}

// A stream that breaks in the middle of a ledger is taken up again, and nothing
// is lost or repeated.
func TestSinkTakesUpABrokenStream(t *testing.T) {
	broken := 0
	p := &fakeProcessor{before: func(_ context.Context, info events.BatchInfo) error {
		if info.Ledger == first+35 && info.Last && broken < 3 {
			broken++
			return status.Error(codes.Unavailable, "gone")
		}
		return nil
	}}
	cfg := config(t, p, first+60)
	s, err := run(t, cfg)
	require.NoError(t, err)
	requireWhole(t, p, cfg.Dir, first+60)
	require.Equal(t, int64(3), s.Status().Retries)
	require.Equal(t, int64(90), s.Status().Events)
}

// What cannot get better ends the sink; what is durable stays, and a second
// sink goes on there.
func TestSinkStopsAtABadLedgerAndIsContinued(t *testing.T) {
	bad := true
	p := &fakeProcessor{before: func(_ context.Context, info events.BatchInfo) error {
		if info.Ledger == first+50 && bad {
			return status.Error(codes.DataLoss, "ledger 1050 does not decode")
		}
		return nil
	}}
	cfg := config(t, p, first+60)
	_, err := run(t, cfg)
	require.ErrorContains(t, err, "ledger 1050 does not decode")
	require.Equal(t, int64(1), p.asked.Load(), "no second attempt")
	requireWhole(t, p, cfg.Dir, first+49)
	bad = false
	s, err := run(t, cfg)
	require.NoError(t, err)
	requireWhole(t, p, cfg.Dir, first+60)
	require.Equal(t, int64(61), s.Status().Ledgers, "both runs together")
	_, err = run(t, cfg)
	require.NoError(t, err, "a finished run has nothing to do")
	require.Equal(t, int64(2), p.asked.Load())
}

func TestSinkGivesUpWithoutProgress(t *testing.T) {
	p := &fakeProcessor{
		before: func(context.Context, events.BatchInfo) error { return status.Error(codes.Unavailable, "gone") },
	}
	cfg := config(t, p, first)
	cfg.MaxAttempts = -1
	_, err := run(t, cfg)
	require.ErrorContains(t, err, "gave up after 1 attempts")
}

// The stream proves itself: a gap, a wrong count or an early end is never
// taken for the truth.
func TestSinkRefusesAStreamWithGaps(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*events.BatchInfo)
		want   string
	}{
		"gap":        {func(i *events.BatchInfo) { i.Ledger++ }, "goes on with ledger 1001, want 1000"},
		"lost rows":  {func(i *events.BatchInfo) { i.Events = 7 }, "came with"},
		"extra rows": {func(i *events.BatchInfo) { i.Events = 0 }, "came with"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &fakeProcessor{change: tc.change, rows: func(uint32) int { return 1 }}
			_, err := run(t, config(t, p, first+3))
			require.ErrorContains(t, err, tc.want)
		})
	}
}

// A ledger of more batches than the stage may hold goes through all the same.
func TestSinkTakesALedgerLargerThanItsStage(t *testing.T) {
	p := &fakeProcessor{batchRows: 1, rows: func(ledger uint32) int {
		if ledger == first+2 {
			return 50
		}
		return 1
	}}
	cfg := config(t, p, first+5)
	cfg.Throttler = gate(t, 4)
	_, err := run(t, cfg)
	require.NoError(t, err)
	requireWhole(t, p, cfg.Dir, first+5)
	require.Zero(t, cfg.Throttler.InFlight())
}

// While it waits for a slow disk, what is read counts as load up to the limit,
// and then the sink reads no further.
func TestSinkShowsItsDelayAsLoad(t *testing.T) {
	p := &fakeProcessor{batchRows: 4}
	cfg := config(t, p, first+99)
	cfg.Delay = sink.NewDelay(time.Hour)
	full := make(chan struct{})
	sent := atomic.Int64{}
	p.before = func(context.Context, events.BatchInfo) error {
		sent.Add(1)
		return nil
	}
	s, err := sink.New(cfg)
	require.NoError(t, err)
	defer s.Close()
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context(), nil) }()
	go func() {
		for cfg.Throttler.Load() < 1 {
			<-time.After(time.Millisecond)
		}
		close(full)
	}()
	<-full
	require.Equal(t, int64(16), cfg.Throttler.InFlight().Messages)
	require.Zero(t, s.Status().Ledgers)
	cfg.Delay.Set(0) // live
	require.NoError(t, <-done)
	requireWhole(t, p, cfg.Dir, first+99)
	require.Zero(t, cfg.Throttler.Load())
}

// Drained in the middle, the sink ends with whole ledgers, and quickly though
// its delay is long; the next run does the rest.
func TestSinkDrains(t *testing.T) {
	drain, reached := make(chan struct{}), make(chan struct{})
	p := &fakeProcessor{}
	p.before = func(ctx context.Context, info events.BatchInfo) error {
		if info.Ledger == first+10 {
			close(reached)
			<-ctx.Done() // the processor has nothing more to send
			return ctx.Err()
		}
		return nil
	}
	cfg := config(t, p, first+60)
	cfg.Delay = sink.NewDelay(time.Hour)
	cfg.Throttler = gate(t, 1000)
	s, err := sink.New(cfg)
	require.NoError(t, err)
	defer s.Close()
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context(), drain) }()
	<-reached
	for cfg.Throttler.InFlight().Messages < 10 {
		<-time.After(time.Millisecond)
	}
	close(drain)
	require.NoError(t, <-done)
	st := s.Status()
	require.False(t, st.Done)
	require.Equal(t, st.Next, st.Written, "what was written is durable")
	requireWhole(t, p, cfg.Dir, st.Next-1)
	require.Zero(t, cfg.Throttler.InFlight())
	require.NoError(t, s.Close())
	p.before = nil
	cfg.Delay = nil
	_, err = run(t, cfg)
	require.NoError(t, err)
	requireWhole(t, p, cfg.Dir, first+60)
}

// Stopped at once, the sink leaves complete files only.
func TestSinkStopsAtOnce(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	p := &fakeProcessor{before: func(_ context.Context, info events.BatchInfo) error {
		if info.Ledger == first+30 {
			stop()
		}
		return nil
	}}
	cfg := config(t, p, first+60)
	s, err := sink.New(cfg)
	require.NoError(t, err)
	require.ErrorIs(t, s.Run(ctx, nil), context.Canceled)
	require.Zero(t, cfg.Throttler.InFlight())
	if next := s.Status().Next; next > first {
		requireWhole(t, p, cfg.Dir, next-1)
	}
	require.NoError(t, s.Close())
	_, err = run(t, cfg)
	require.NoError(t, err)
	requireWhole(t, p, cfg.Dir, first+60)
}

func TestFileAgeMakesASlowStreamDurable(t *testing.T) {
	release := make(chan struct{})
	p := &fakeProcessor{before: func(ctx context.Context, info events.BatchInfo) error {
		if info.Ledger == first+3 {
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	}}
	cfg := config(t, p, first+5)
	cfg.FileAge = 5 * time.Millisecond
	s, err := sink.New(cfg)
	require.NoError(t, err)
	defer s.Close()
	done := make(chan error, 1)
	go func() { done <- s.Run(t.Context(), nil) }()
	for s.Status().Next != first+3 { // durable while the stream hangs
		<-time.After(time.Millisecond)
	}
	close(release)
	require.NoError(t, <-done)
	requireWhole(t, p, cfg.Dir, first+5)
}

func TestConfigJoinsItsProblems(t *testing.T) {
	_, err := sink.New(sink.Config{Format: "xml"})
	for _, want := range []string{"Client is required", "Throttler is required", "Dir is required", `Format "xml"`} {
		require.ErrorContains(t, err, want)
	}
}
