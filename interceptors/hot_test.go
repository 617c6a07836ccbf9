package interceptors

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// nullStream takes and gives messages at no cost, so that what is measured is
// what the interceptor adds.
type nullStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (n *nullStream) Context() context.Context { return n.ctx }
func (n *nullStream) SendMsg(any) error        { return nil }
func (n *nullStream) RecvMsg(any) error        { return nil }

var plainBatch = &flight.FlightData{DataHeader: batchHeader(100), DataBody: make([]byte, 64<<10)}

// batchHeader writes a Message with a RecordBatch of so many rows.
func batchHeader(rows byte) []byte {
	b := make([]byte, 64)
	b[0] = 16 // root table
	// vtable of the message at 4: fields version, type, header
	copy(b[4:], []byte{10, 0, 12, 0, 0, 0, 4, 0, 8, 0})
	b[16] = 12 // table at 16, its vtable 12 before it
	b[20] = 3  // type: record batch
	b[24] = 16 // header: table at 40
	copy(b[30:], []byte{6, 0, 12, 0, 4, 0})
	b[40] = 10 // vtable at 30
	b[44] = rows
	return b
}

func hotStream(tb testing.TB, cfg ServerConfig, name string) *serverStream {
	s, err := NewServer(cfg)
	require.NoError(tb, err)
	m := s.method(name, name != flightService+"DoGet", name != flightService+"DoPut")
	cl := s.newCall(m, true)
	ss := &nullStream{ctx: context.Background()}
	stream := newServerStream(s, cl, ss, ss.ctx)
	stream.first = false
	return stream
}

func governed(tb testing.TB, fraction float64) ServerConfig {
	gate, err := flowcontrol.New(flowcontrol.Config{
		Limit: flowcontrol.Cost{Messages: 1000, Rows: 1 << 40, Bytes: 1 << 50},
		Rate:  flowcontrol.Rates{Messages: 1e12, Bytes: 1e15}, Burst: flowcontrol.Cost{Messages: 1 << 40, Bytes: 1 << 50},
	})
	require.NoError(tb, err)
	gate.SetFraction(fraction)
	return ServerConfig{Throttler: gate}
}

func hotCases(tb testing.TB) map[string]func() {
	cases := map[string]func(){}
	for name, cfg := range map[string]ServerConfig{
		"tracking": {}, "tokens": governed(tb, 1), "tokens and fraction": governed(tb, 1-1e-9),
	} {
		get, put := hotStream(tb, cfg, flightService+"DoGet"), hotStream(tb, cfg, flightService+"DoPut")
		cases["send "+name] = func() { _ = get.SendMsg(plainBatch) }
		cases["receive "+name] = func() { _ = put.RecvMsg(plainBatch) }
	}
	bare := &nullStream{}
	var stream grpc.ServerStream = bare
	cases["bare"] = func() { _ = stream.SendMsg(plainBatch) }
	return cases
}

// benchmark reports processor time too: on a shared machine the wall tells
// mostly what the neighbours do.
func benchmark(b *testing.B, f func()) {
	b.ReportAllocs()
	began := cpuTime(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
}

func cpuTime(tb testing.TB) int64 {
	var u syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

func BenchmarkHotMessage(b *testing.B) {
	for _, name := range []string{
		"bare", "send tracking", "receive tracking", "send tokens", "receive tokens",
		"send tokens and fraction", "receive tokens and fraction",
	} {
		b.Run(name, func(b *testing.B) { benchmark(b, hotCases(b)[name]) })
	}
}

func BenchmarkHotCostOf(b *testing.B) {
	benchmark(b, func() { CostOf(plainBatch) })
}

func BenchmarkHotClock(b *testing.B) {
	began := time.Now()
	benchmark(b, func() { _ = time.Since(began) })
}

func TestHotPathAllocatesNothing(t *testing.T) {
	require.Equal(t, flowcontrol.Cost{Messages: 1, Rows: 100, Bytes: 64<<10 + 64}, CostOf(plainBatch))
	for name, f := range hotCases(t) {
		require.Zero(t, testing.AllocsPerRun(1000, f), name)
	}
}

type nullTransport struct{}

func (nullTransport) Method() string               { return "" }
func (nullTransport) SetHeader(metadata.MD) error  { return nil }
func (nullTransport) SendHeader(metadata.MD) error { return nil }
func (nullTransport) SetTrailer(metadata.MD) error { return nil }
