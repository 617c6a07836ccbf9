package backends_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	protocol "github.com/stellar/go-stellar-sdk/protocols/rpc"
	"github.com/stellar/go-stellar-sdk/xdr"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/ledgers/backends"
)

// rpcServer is a Stellar RPC server with retention and a limit of ledgers a
// call. Its tests change it between two of its answers.
type rpcServer struct {
	*httptest.Server
	before func(s *rpcServer, method string) (status int, retryAfter string) // called with mu held

	mu     sync.Mutex
	has    ledgers.Range
	most   uint32 // ledgers a call
	skip   uint32 // a ledger that it leaves out
	lie    uint32 // a ledger whose bytes are another's
	calls  map[string]int
	limits []uint // that getLedgers was asked for
}

func startRPC(t *testing.T, has ledgers.Range) *rpcServer {
	t.Helper()
	s := &rpcServer{has: has, most: 20, calls: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *rpcServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var call struct {
		ID     json.RawMessage
		Method string
		Params protocol.GetLedgersRequest
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
		http.Error(w, "broken", http.StatusBadRequest)
		return
	}
	s.calls[call.Method]++
	if s.before != nil {
		if status, retryAfter := s.before(s, call.Method); status != 0 {
			w.Header().Set("Retry-After", retryAfter)
			http.Error(w, "busy", status)
			return
		}
	}
	var result any
	var err error
	switch call.Method {
	case protocol.GetHealthMethodName:
		result = protocol.GetHealthResponse{Status: "healthy", OldestLedger: s.has.First, LatestLedger: s.has.Last}
	case protocol.GetLedgersMethodName:
		s.limits = append(s.limits, call.Params.Pagination.Limit)
		result, err = s.ledgers(r.Context(), call.Params)
	default:
		err = errors.New("no such method: " + call.Method)
	}
	answer := map[string]any{"jsonrpc": "2.0", "id": call.ID, "result": result}
	if err != nil {
		delete(answer, "result")
		answer["error"] = map[string]any{"code": -32600, "message": err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *rpcServer) ledgers(ctx context.Context, req protocol.GetLedgersRequest) (protocol.GetLedgersResponse, error) {
	out := protocol.GetLedgersResponse{LatestLedger: s.has.Last, OldestLedger: s.has.First}
	if err := req.Validate(uint(s.most), protocol.LedgerSeqRange{
		FirstLedger: s.has.First,
		LastLedger:  s.has.Last,
	}); err != nil {
		return out, err
	}
	sample, err := ledgers.NewSample(s.has.Last - first + 1)
	if err != nil {
		return out, err
	}
	r := ledgers.Range{First: req.StartLedger, Last: min(req.StartLedger+uint32(req.Pagination.Limit)-1, s.has.Last)}
	for l, err := range sample.Ledgers(ctx, r) {
		if err != nil {
			return out, err
		}
		if l.Sequence == s.skip {
			continue
		}
		info := protocol.LedgerInfo{Sequence: l.Sequence, LedgerMetadata: base64.StdEncoding.EncodeToString(l.Raw)}
		if l.Sequence == s.lie {
			info.LedgerMetadata = out.Ledgers[len(out.Ledgers)-1].LedgerMetadata
		}
		out.Ledgers = append(out.Ledgers, info)
	}
	return out, nil
}

func openRPC(t *testing.T, cfg backends.RPCConfig) *backends.RPC {
	t.Helper()
	if cfg.RetryWait == 0 {
		cfg.RetryWait = time.Millisecond
	}
	src, err := backends.NewRPC(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	return src
}

func TestRPC(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 6})
	src := openRPC(t, backends.RPCConfig{URL: server.URL + "/?key=secret", BufferLedgers: 3})
	require.Equal(t, "rpc", src.Info().Kind)
	require.NotContains(t, src.Info().Note, "secret")
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, server.has, bounds)
	sameAsSample(t, src, bounds)
	sameAsSample(t, src, ledgers.Range{First: first + 2, Last: first + 4})
	require.Equal(t, []uint{3, 3, 1, 3}, server.limits)

	for _, r := range []ledgers.Range{{First: first - 1, Last: first}, {First: first + 6, Last: first + 7}} {
		require.ErrorIs(t, drain(src.Ledgers(t.Context(), r)), ledgers.ErrNotFound)
	}
}

// A server that answers fewer ledgers a call than were asked for is asked for
// as many as it says.
func TestRPCAdaptsToTheLimit(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 6})
	server.most = 4
	src := openRPC(t, backends.RPCConfig{URL: server.URL, BufferLedgers: 20})
	sameAsSample(t, src, server.has)
	require.Equal(t, []uint{7, 4, 3}, server.limits)
}

// Bounds are what is there now. What the server evicted meanwhile is gone, and
// nothing else.
func TestRPCRetention(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 6})
	for _, start := range []uint32{0, first} {
		server.has.First = first
		src := openRPC(t, backends.RPCConfig{URL: server.URL, Start: start})
		_, err := src.Bounds(t.Context())
		require.NoError(t, err)
		server.has.First++
		bounds, err := src.Bounds(t.Context())
		require.NoError(t, err)
		require.Equal(t, server.has, bounds)
		sameAsSample(t, src, server.has)
		err = drain(src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first + 6}))
		require.ErrorIs(t, err, ledgers.ErrNotFound)
		require.ErrorContains(t, err, "ledger 53312000")
	}

	// A stream that is too slow is told which ledger was evicted before it.
	server.has.First = first
	server.before = func(s *rpcServer, method string) (int, string) {
		if method == protocol.GetLedgersMethodName && len(s.limits) > 0 {
			s.has.First = first + 5
		}
		return 0, ""
	}
	server.limits = nil
	src := openRPC(t, backends.RPCConfig{URL: server.URL, BufferLedgers: 2})
	err := drain(src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first + 6}))
	require.ErrorIs(t, err, ledgers.ErrNotFound)
	require.ErrorContains(t, err,
		"ledger 53312002: ledger not found: the server keeps it no longer: it has 53312005-53312006")
}

// A server that is busy is asked again, as late as it says.
func TestRPCIsBusy(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 3})
	for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		busy := map[string]bool{}
		server.before = func(_ *rpcServer, method string) (int, string) {
			if !busy[method] {
				busy[method] = true
				return status, "1"
			}
			return 0, ""
		}
		began := time.Now()
		sameAsSample(t, openRPC(t, backends.RPCConfig{URL: server.URL}), server.has)
		require.GreaterOrEqual(t, time.Since(began), 2*time.Second, "Retry-After says a second, twice")
	}
	server.before = func(*rpcServer, string) (int, string) { return http.StatusServiceUnavailable, "" }
	server.calls = map[string]int{}
	src := openRPC(t, backends.RPCConfig{URL: server.URL + "/?key=secret", Retries: 2})
	_, err := src.Bounds(t.Context())
	require.ErrorIs(t, err, ledgers.ErrBackend)
	require.NotContains(t, err.Error(), "secret")
	require.Equal(t, 3, server.calls[protocol.GetHealthMethodName], "a bounded number of times")
	server.Close()
	_, err = src.Bounds(t.Context())
	require.ErrorIs(t, err, ledgers.ErrBackend)
	require.NotContains(t, err.Error(), "secret")
}

// A stream at the tip waits for the next ledger, with and without an end.
func TestRPCFollowsTheTip(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 1})
	server.before = func(s *rpcServer, method string) (int, string) {
		if method == protocol.GetHealthMethodName && s.calls[method]%3 == 0 && s.has.Last < first+4 {
			s.has.Last++
		}
		return 0, ""
	}
	src := openRPC(t, backends.RPCConfig{URL: server.URL, Follow: true, Poll: time.Millisecond})
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, ledgers.Range{First: first, Last: backends.NoEnd}, bounds)
	require.Equal(t, first+1, src.Latest())
	sameAsSample(t, src, ledgers.Range{First: first, Last: first + 3})
	require.GreaterOrEqual(t, src.Latest(), first+3)
}

func TestRPCErrors(t *testing.T) {
	all := ledgers.Range{First: first, Last: first + 3}
	server := startRPC(t, all)
	server.skip = first + 2
	src := openRPC(t, backends.RPCConfig{URL: server.URL})
	err := drain(src.Ledgers(t.Context(), all))
	require.ErrorIs(t, err, ledgers.ErrNotFound)
	require.ErrorContains(t, err, "ledger 53312002")

	server.skip, server.lie = 0, first+1
	err = drain(src.Ledgers(t.Context(), all))
	require.ErrorIs(t, err, ledgers.ErrCorrupt)
	require.ErrorContains(t, err, "ledger 53312001")
	server.lie = 0

	for want, cfg := range map[string]backends.RPCConfig{
		"start lies after the latest ledger that is there, 53312003": {Start: first + 4},
		"end lies before the oldest ledger that is there, 53312000":  {End: first - 1},
	} {
		cfg.URL = server.URL
		_, err = openRPC(t, cfg).Bounds(t.Context())
		require.ErrorIs(t, err, ledgers.ErrNotFound)
		require.ErrorContains(t, err, want)
	}

	small := openRPC(t, backends.RPCConfig{URL: server.URL, MaxAnswerBytes: 100_000, Retries: 1})
	err = drain(small.Ledgers(t.Context(), all))
	require.ErrorIs(t, err, ledgers.ErrBackend)
	require.ErrorContains(t, err, "too large")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, drain(src.Ledgers(ctx, all)))
}

func TestRPCConfig(t *testing.T) {
	_, err := backends.NewRPC(backends.RPCConfig{URL: "localhost:8000", Start: 9, End: 8, BufferLedgers: 21})
	require.ErrorContains(t, err, `want http://… or https://…`)
	require.ErrorContains(t, err, "End is 8, want at least Start, 9")
	require.ErrorContains(t, err, "BufferLedgers is 21, want at most 20")
}

// An answer to another question is an error: nobody waits for the right one, which
// never comes.
func TestRPCAnswersToAnotherQuestion(t *testing.T) {
	for answer, want := range map[string]string{
		`{"jsonrpc":"2.0","id":99,"result":{}}`: "to another question",
		`{"jsonrpc":"2.0","result":{}}`:         "says no question",
		`[]`:                                    "no JSON-RPC",
		`{"jsonrpc":"2.0",`:                     "no JSON-RPC",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(answer))
		}))
		src := openRPC(t, backends.RPCConfig{URL: server.URL, Retries: 1, RetryWait: 1})
		_, err := src.Bounds(t.Context())
		require.ErrorIs(t, err, ledgers.ErrBackend)
		require.ErrorContains(t, err, want)
		server.Close()
	}
}

// Whatever a server answers, it is the ledger that was asked for or an error.
func FuzzRPCAnswer(f *testing.F) {
	f.Add(
		[]byte(
			`{"jsonrpc":"2.0","id":$ID,"result":{"ledgers":[{"sequence":53312000,"metadataXdr":"AAAA"}],"latestLedger":53312000}}`,
		),
	)
	f.Add([]byte(`{"result":{"ledgers":[]},"jsonrpc":"2.0","id":$ID}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":$ID,"error":{"code":1,"message":"limit must not exceed 0"}}`))
	f.Add(
		[]byte(
			`{"jsonrpc":"2.0","id":1,"result":{"ledgers":[{"sequence":53312000,"metadataXdr":"AAAA"}],"latestLedger":53312000}}`,
		),
	)
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"limit must not exceed 0"}}`))
	f.Add([]byte(`{"jsonrpc":"2.0","id":1,"result":{}}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, content []byte) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var question struct {
				ID     json.RawMessage
				Method string
			}
			_ = json.NewDecoder(r.Body).Decode(&question)
			answer := bytes.Replace(content, []byte("$ID"), question.ID, 1)
			if question.Method == "getHealth" {
				answer = fmt.Appendf(
					nil,
					`{"jsonrpc":"2.0","id":%s,"result":{"status":"healthy","oldestLedger":%d,"latestLedger":%d}}`,
					question.ID,
					first,
					first,
				)
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(answer)
		}))
		defer server.Close()
		src := openRPC(t, backends.RPCConfig{URL: server.URL, Start: first, End: first, RetryWait: 1, Retries: 1})
		for l, err := range src.Ledgers(t.Context(), ledgers.Range{First: first, Last: first}) {
			if err != nil {
				return
			}
			got, err := xdr.LedgerCloseMetaView(l.Raw).LedgerSequence()
			require.NoError(t, err)
			require.Equal(t, uint32(first), got)
		}
	})
}
