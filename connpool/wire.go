package connpool

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/stats"
)

// wire is a slot's stats handler. It counts attempts that wait for a stream and
// those that have one: gRPC reports an attempt's header only once the server's
// stream limit let it out, so when attempts wait on a ready transport and none
// gets out, those on the wire are exactly the limit.
type wire struct {
	slot    *slot
	inbound atomic.Uint64 // signs of life of the server
	open    atomic.Int64  // attempts that have not ended, waiting or not

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
		w.begin(a)
	case *stats.OutHeader:
		w.out(a)
	case *stats.End:
		w.end(a)
	}
}

func (w *wire) begin(a *attempt) {
	if a.call != nil {
		a.call.begun()
	}
	w.open.Add(1)
	w.mu.Lock()
	w.waiting++
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
	w.waiting--
	w.onWire++
	w.progress++
}

func (w *wire) end(a *attempt) {
	w.mu.Lock()
	if !a.sent {
		w.waiting--
	} else if a.transport == w.transport {
		w.onWire--
		w.progress++
	}
	w.mu.Unlock()
	if w.open.Add(-1) == 0 && w.slot.has(flagClosed) {
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
