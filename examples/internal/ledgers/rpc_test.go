package ledgers_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	protocol "github.com/stellar/go-stellar-sdk/protocols/rpc"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

// rpcServer is a Stellar RPC server that has the ledgers of has, less than
// latest of them at first: every call of getHealth is told of one more.
type rpcServer struct {
	*httptest.Server
	has    ledgers.Range
	latest atomic.Uint32
	skip   uint32 // a ledger that it leaves out
	lie    uint32 // a ledger whose bytes are another's
	broken atomic.Bool
}

func startRPC(t *testing.T, has ledgers.Range) *rpcServer {
	t.Helper()
	s := &rpcServer{has: has}
	s.latest.Store(has.Last)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *rpcServer) serve(w http.ResponseWriter, r *http.Request) {
	var call struct {
		ID     json.RawMessage
		Method string
		Params protocol.GetLedgersRequest
	}
	if err := json.NewDecoder(r.Body).Decode(&call); err != nil || s.broken.Load() {
		http.Error(w, "broken", http.StatusInternalServerError)
		return
	}
	var result any
	var err error
	switch call.Method {
	case protocol.GetHealthMethodName:
		latest := s.latest.Load()
		if latest < s.has.Last {
			s.latest.Add(1)
		}
		result = protocol.GetHealthResponse{Status: "healthy", OldestLedger: s.has.First, LatestLedger: latest}
	case protocol.GetLedgersMethodName:
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
	out := protocol.GetLedgersResponse{LatestLedger: s.latest.Load(), OldestLedger: s.has.First}
	if err := req.Validate(200, protocol.LedgerSeqRange{FirstLedger: s.has.First, LastLedger: s.has.Last}); err != nil {
		return out, err
	}
	sample, err := ledgers.NewSample(s.has.Last - first + 1)
	if err != nil {
		return out, err
	}
	r := ledgers.Range{First: req.StartLedger, Last: min(req.StartLedger+uint32(req.Pagination.Limit)-1, out.LatestLedger)}
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

func openRPC(t *testing.T, cfg ledgers.RPCConfig) *ledgers.RPC {
	t.Helper()
	src, err := ledgers.NewRPC(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, src.Close()) })
	return src
}

func TestRPC(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 6})
	src := openRPC(t, ledgers.RPCConfig{URL: server.URL + "/?key=secret", BufferLedgers: 3})
	require.Equal(t, "rpc", src.Info().Kind)
	require.NotContains(t, src.Info().Note, "secret")
	bounds, err := src.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, server.has, bounds)
	sameAsSample(t, src, bounds)
	sameAsSample(t, src, ledgers.Range{First: first + 2, Last: first + 4})

	for _, r := range []ledgers.Range{{First: first - 1, Last: first}, {First: first + 6, Last: first + 7}} {
		require.ErrorIs(t, drain(src.Ledgers(t.Context(), r)), ledgers.ErrNotFound)
	}
}

// The end may lie in the future: the stream waits for the ledger to close.
func TestRPCWaitsForTheNextLedger(t *testing.T) {
	server := startRPC(t, ledgers.Range{First: first, Last: first + 2})
	server.latest.Store(first)
	src := openRPC(t, ledgers.RPCConfig{URL: server.URL, Start: first, End: first + 2})
	sameAsSample(t, src, ledgers.Range{First: first, Last: first + 2})
}

func TestRPCErrors(t *testing.T) {
	all := ledgers.Range{First: first, Last: first + 3}
	server := startRPC(t, all)
	server.skip = first + 2
	src := openRPC(t, ledgers.RPCConfig{URL: server.URL})
	err := drain(src.Ledgers(t.Context(), all))
	require.ErrorIs(t, err, ledgers.ErrNotFound)
	require.ErrorContains(t, err, "ledger 53312002")

	server.skip, server.lie = 0, first+1
	err = drain(src.Ledgers(t.Context(), all))
	require.ErrorIs(t, err, ledgers.ErrCorrupt)
	require.ErrorContains(t, err, "ledger 53312001")

	early := openRPC(t, ledgers.RPCConfig{URL: server.URL, Start: first - 100})
	_, err = early.Bounds(t.Context())
	require.ErrorIs(t, err, ledgers.ErrNotFound)

	server.broken.Store(true)
	_, err = src.Bounds(t.Context())
	require.ErrorIs(t, err, ledgers.ErrBackend)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, drain(src.Ledgers(ctx, all)))
}

func TestRPCConfig(t *testing.T) {
	_, err := ledgers.NewRPC(ledgers.RPCConfig{URL: "localhost:8000", Start: 9, End: 8, BufferLedgers: 201})
	require.ErrorContains(t, err, `URL is "localhost:8000", want http://… or https://…`)
	require.ErrorContains(t, err, "End is 8, want at least Start, 9")
	require.ErrorContains(t, err, "BufferLedgers is 201, want at most 200")
}
