package interceptors

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/flowcontrol"
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

// TestCallsDoNotWaitForReaders: a call begins, sends and ends while somebody is
// reading the books, for however long, and is in them afterwards.
func TestCallsDoNotWaitForReaders(t *testing.T) {
	s, call := tenantServer(t)
	for i := range s.shards {
		s.shards[i].mu.Lock()
	}
	s.mu.Lock()
	const n = 1000
	for range n {
		call(sendOne)
	}
	s.mu.Unlock()
	for i := range s.shards {
		s.shards[i].mu.Unlock()
	}
	st := s.Stats()
	require.EqualValues(t, n, st.Class(ClassGet).Completed)
	require.EqualValues(t, n, st.Class(ClassGet).Sent.Messages)
	require.EqualValues(t, n, st.Tenants[0].Sent.Messages)
}

// TestReadersDoNotWaitForCalls: Stats returns while the locks are held that a
// call takes.
func TestReadersDoNotWaitForCalls(t *testing.T) {
	s, call := tenantServer(t)
	call(sendOne)
	s.countRejection(&Error{Class: ClassGet, Reason: ReasonTap})
	s.mu.Lock()
	s.tenants.mu.Lock()
	s.watchMu.Lock()
	s.load.mu.Lock()
	st := s.Stats()
	s.load.mu.Unlock()
	s.watchMu.Unlock()
	s.tenants.mu.Unlock()
	s.mu.Unlock()
	require.EqualValues(t, 1, st.Class(ClassGet).Completed)
	require.EqualValues(t, 1, st.Tenants[0].Started)
	require.EqualValues(t, 1, st.Rejected(ReasonTap))
}

// TestBooksHoldNoMemory: nobody reads them, and few calls that are over wait.
func TestBooksHoldNoMemory(t *testing.T) {
	s, call := tenantServer(t)
	for range 10_000 {
		call(sendOne)
	}
	waiting := 0
	for i := range s.shards {
		for c := s.shards[i].done.take(); c != nil; c = c.after {
			waiting++
		}
	}
	require.Less(t, waiting, shards*enough)
}

// TestBooksAgree: while calls come and go, every reading adds up, and no counter
// of one is below that of the reading before.
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
}

// TestEveryReasonIsCounted finds a new reason that has no counter.
func TestEveryReasonIsCounted(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	require.NoError(t, err)
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Names) == 1 && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			declared++
		}
		return true
	})
	require.Len(t, ownReasons, declared)
	require.Len(t, reasonIndex, declared+len(flowcontrol.Reasons()), "and no two have one name")
}

// BenchmarkCall is what the books of a call cost, and the call itself.
func BenchmarkCall(b *testing.B) {
	s, err := NewServer(ServerConfig{})
	require.NoError(b, err)
	m := s.method(flightService+"DoGet", false, true)
	one := func() {
		cl := s.newCall(m, false)
		if e := s.open(cl); e != nil {
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
