package connpool

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
)

// wire is a slot's stats handler, and the last of its credentials. It counts
// attempts that wait for a stream and those that have one. The last thing that
// gRPC does before it waits for a stream is to ask for credentials, and it
// reports an attempt's header only once the server's stream limit let it out. So
// when attempts wait on a ready transport and none gets out, those on the wire
// are exactly the limit. From its begin on it would not be: a token that is slow
// to come, or a name, holds an attempt up as well.
type wire struct {
	slot    *slot
	inbound atomic.Uint64 // signs of life of the server
	open    atomic.Int64  // attempts that wait for a stream or have one

	mu        sync.Mutex
	waiting   int
	onWire    int
	progress  uint64 // headers that went out, and streams that ended
	transport uint64 // generation: streams of an older one do not count
}

type attemptKey struct{}

type attempt struct {
	call      *call // nil when an interceptor made its own context
	transport uint64
	counted   bool // it waits for a stream, or has one
	sent      bool
}

// TagRPC gives each attempt a record of its own.
func (w *wire) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	c, _ := ctx.Value(callKey{}).(*call)
	return context.WithValue(ctx, attemptKey{}, &attempt{call: c})
}

// HandleRPC follows an attempt from its begin to its end.
func (w *wire) HandleRPC(ctx context.Context, s stats.RPCStats) {
	switch s.(type) {
	case *stats.InPayload, *stats.InHeader, *stats.InTrailer:
		w.inbound.Add(1)
		return
	case *stats.Begin, *stats.OutHeader, *stats.End:
	default:
		return
	}
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	if a == nil {
		return
	}
	switch s.(type) {
	case *stats.Begin:
		if a.call != nil {
			a.call.begun()
		}
	case *stats.OutHeader:
		w.out(a)
	case *stats.End:
		w.end(a)
	}
}

// GetRequestMetadata adds nothing to an attempt: it is where the waiting begins,
// unless the call has credentials of its own, which gRPC asks after these.
func (w *wire) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	if a, _ := ctx.Value(attemptKey{}).(*attempt); a != nil && (a.call == nil || !a.call.ownToken) {
		w.wait(a)
	}
	return nil, nil
}

// RequireTransportSecurity is what credentials without a secret say.
func (w *wire) RequireTransportSecurity() bool { return false }

// A token is the credentials of a call.
type token struct {
	credentials.PerRPCCredentials
	wire *wire
}

func (t token) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	md, err := t.PerRPCCredentials.GetRequestMetadata(ctx, uri...)
	if a, _ := ctx.Value(attemptKey{}).(*attempt); a != nil && err == nil {
		t.wire.wait(a)
	}
	return md, err
}

// watchToken makes the call's own credentials, if it has any, say when they have come.
func (c *call) watchToken(opts []grpc.CallOption) []grpc.CallOption {
	for i := len(opts) - 1; i >= 0; i-- { // the last is the one that gRPC takes
		if o, ok := opts[i].(grpc.PerRPCCredsCallOption); ok && o.Creds != nil {
			c.ownToken = true
			return append(opts[:len(opts):len(opts)], grpc.PerRPCCredentials(token{o.Creds, &c.slot.wire}))
		}
	}
	return opts
}

// wait counts an attempt. Before this it may come to nothing: when a transport
// goes at the wrong moment, gRPC begins one attempt more than it ends.
func (w *wire) wait(a *attempt) {
	w.mu.Lock()
	if !a.counted {
		a.counted = true
		w.open.Add(1)
		w.waiting++
	}
	w.mu.Unlock()
	w.slot.lane.pool.watchWaiting()
}

func (w *wire) out(a *attempt) {
	if a.call != nil {
		a.call.sent()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.sent, a.transport = true, w.transport
	if a.counted {
		w.waiting--
	} else { // a dialer of the user's has left our credentials out
		a.counted = true
		w.open.Add(1)
	}
	w.onWire++
	w.progress++
}

func (w *wire) end(a *attempt) {
	w.mu.Lock()
	switch {
	case !a.counted:
	case !a.sent:
		w.waiting--
	case a.transport == w.transport:
		w.onWire--
		w.progress++
	}
	w.mu.Unlock()
	if a.counted && w.open.Add(-1) == 0 && w.slot.has(flagClosed) {
		w.slot.lane.pool.wake()
	}
}

// TagConn has nothing to add.
func (w *wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn starts a new count with each transport.
func (w *wire) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, begin := s.(*stats.ConnBegin); !begin {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.transport++
	w.onWire = 0
	w.progress++
}

type wireCount struct {
	waiting, onWire     int
	progress, transport uint64
}

func (w *wire) count() wireCount {
	w.mu.Lock()
	defer w.mu.Unlock()
	return wireCount{w.waiting, w.onWire, w.progress, w.transport}
}
