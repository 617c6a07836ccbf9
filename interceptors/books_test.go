package interceptors

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

type bareStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s bareStream) Context() context.Context     { return s.ctx }
func (s bareStream) SendMsg(any) error            { return nil }
func (s bareStream) SetTrailer(metadata.MD)       {}
func (s bareStream) SendHeader(metadata.MD) error { return nil }

// tenantServer returns a server and a function that makes one call of it.
func tenantServer(t *testing.T) (s *Server, call func(handler grpc.StreamHandler)) {
	t.Helper()
	s, err := NewServer(ServerConfig{Tenant: func(context.Context, string) string { return "a" }})
	require.NoError(t, err)
	info := &grpc.StreamServerInfo{FullMethod: flightService + "DoGet", IsServerStream: true}
	return s, func(handler grpc.StreamHandler) {
		require.NoError(t, s.interceptStream(nil, bareStream{ctx: context.Background()}, info, handler))
	}
}

func sendOne(_ any, stream grpc.ServerStream) error { return stream.SendMsg(plainBatch) }

// While calls come and go, every snapshot adds up, and no counter of one is below
// that of the snapshot before.
func TestBooksAgree(t *testing.T) {
	s, call := tenantServer(t)
	var calls sync.WaitGroup
	const callers, each = 8, 2000
	for range callers {
		calls.Go(func() {
			for range each {
				call(sendOne)
			}
		})
	}
	stop := make(chan struct{})
	go func() { calls.Wait(); close(stop) }()
	var last ClassStats
	var lastTenant TenantStats
	for done := false; !done; {
		select {
		case <-stop:
			done = true
		default:
		}
		st := s.Stats()
		got := st.Class(ClassGet)
		require.Equal(t, got.Started, got.Completed+got.Failed+got.Cancelled+got.Active)
		require.GreaterOrEqual(t, got.Completed, last.Completed)
		require.GreaterOrEqual(t, got.Sent.Messages, last.Sent.Messages)
		last = got
		if len(st.Tenants) > 0 {
			require.GreaterOrEqual(t, st.Tenants[0].Sent.Messages, lastTenant.Sent.Messages)
			lastTenant = st.Tenants[0]
		}
	}
	require.EqualValues(t, callers*each, last.Completed)
	require.EqualValues(t, callers*each, last.Sent.Messages)
	require.EqualValues(t, callers*each, lastTenant.Sent.Messages)
	require.Zero(t, lastTenant.Active)
	require.Empty(t, s.open)
}

// Whole messages are counted: each has as many rows as bytes here, and no
// snapshot finds one half added.
func TestMessagesAreCountedWhole(t *testing.T) {
	const messages = 100_000
	var h half
	var wg sync.WaitGroup
	wg.Go(func() {
		for range messages {
			h.count(&weight{rows: 7, bytes: 7})
		}
	})
	for seen := int64(0); seen < messages; {
		var sum Traffic
		h.addTo(&sum, 0)
		require.GreaterOrEqual(t, sum.Messages, seen)
		require.Equal(
			t,
			Traffic{Messages: sum.Messages, Rows: 7 * sum.Messages, Bytes: 7 * sum.Messages, Uncompressed: 7 * sum.Messages},
			sum,
		)
		seen = sum.Messages
	}
	wg.Wait()
}

// The peak is that of the last 10 to 20 seconds, and reading it changes nothing.
func TestPeakActiveStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, call := tenantServer(t)
		peaks := func(want int64) {
			t.Helper()
			for range 3 {
				require.Equal(t, want, s.Stats().PeakActiveStreams)
			}
		}
		call(func(any, grpc.ServerStream) error {
			call(func(any, grpc.ServerStream) error { return nil })
			peaks(2)
			return nil
		})
		peaks(2)
		time.Sleep(9 * time.Second)
		peaks(2)
		call(func(any, grpc.ServerStream) error {
			time.Sleep(12 * time.Second)
			peaks(1)
			time.Sleep(time.Hour)
			peaks(1)
			return nil
		})
		peaks(1)
		time.Sleep(20 * time.Second)
		peaks(0)
	})
}

// A stream slot's hint is what is left of the usual time; what is open for longer
// is expected to stay as long again; before anything is known it grows with the
// caller's time.
func TestSlotHints(t *testing.T) {
	var s slots
	require.Zero(t, s.hint(0, time.Minute))
	s.take(0)
	s.take(2 * time.Second)
	require.Equal(t, time.Second, s.hint(2*time.Second, 0))
	require.Equal(t, 4*time.Second, s.hint(2*time.Second, 24*time.Second))
	require.Equal(t, 5*time.Second, s.hint(2*time.Second, time.Hour))
	s.release(0, 10*time.Second, true)
	require.Equal(t, 7*time.Second, s.hint(5*time.Second, time.Minute))
	require.Equal(t, 28*time.Second, s.hint(30*time.Second, time.Minute))
	s.take(4 * time.Second)
	s.release(4*time.Second, 4*time.Second, false)
	s.release(2*time.Second, 4*time.Second, true)
	require.Equal(t, 9*time.Second, s.hold)
	require.Zero(t, s.n)
}

// BenchmarkCall is what the books of a call cost, and the call itself.
func BenchmarkCall(b *testing.B) {
	s, err := NewServer(ServerConfig{})
	require.NoError(b, err)
	m := s.method(flightService+"DoGet", false, true)
	one := func() {
		cl := s.newCall(m, false)
		if e := s.begin(b.Context(), cl); e != nil {
			b.Fatal(e)
		}
		cl.admitted.Store(true)
		s.enlist(cl)
		s.close(cl, endedWell)
	}
	b.Run("one", func(b *testing.B) { benchmark(b, one) })
	b.Run("contended", func(b *testing.B) {
		b.ReportAllocs()
		began := cpuTime(b)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				one()
			}
		})
		b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
	})
}
