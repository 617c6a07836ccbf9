package connpool

import (
	"context"
	"math"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"
)

// A wire is what the pool sees of one connection's traffic: the server's stream
// limit, which attempts are on the wire, and whether the server sends anything.
//
// The limit is read from the server's SETTINGS. It was once inferred from calls
// that wait on a ready transport while none gets out; but a slow token, an
// interceptor or a starved process looks exactly the same, and no threshold
// tells them apart.
type wire struct {
	slot      *slot
	inbound   atomic.Uint64 // bytes that came from the server
	announced atomic.Int32  // the server's stream limit; 0 = none, or not known
	open      atomic.Int64  // attempts on the wire

	mu         sync.Mutex   // guards what follows; held only for moves in memory
	transports []*transport // that take new streams, the newest last
	assumed    int          // what the connection carries where the server has no limit
}

// A transport is one HTTP/2 connection: a slot gets another after GOAWAY, or
// when it was lost. It is the net.Conn that gRPC reads from.
type transport struct {
	net.Conn
	wire    *wire
	scanner frameScanner          // belongs to the goroutine that reads
	ended   atomic.Pointer[error] // why the pool closed it

	// Guarded by wire.mu.
	limit   uint32 // what the server announced; MaxUint32 = no limit
	known   bool   // SETTINGS have come
	streams int    // attempts on it
}

// watchedCredentials hand each transport to the wire on its way to gRPC. Behind
// the handshake, so that the frames are readable under TLS too.
type watchedCredentials struct {
	credentials.TransportCredentials
	wire *wire
}

func (c watchedCredentials) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (
	net.Conn, credentials.AuthInfo, error,
) {
	conn, info, err := c.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		return conn, info, err
	}
	t := &transport{Conn: conn, wire: c.wire}
	t.scanner = frameScanner{onSettings: t.onSettings, onGoAway: func() { c.wire.drop(t) }}
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.wire.transports = append(c.wire.transports, t)
	return t, info, nil
}

func (c watchedCredentials) Clone() credentials.TransportCredentials {
	return watchedCredentials{c.TransportCredentials.Clone(), c.wire}
}

// UsesXDS passes on what gRPC's xDS balancer asks of credentials.
func (c watchedCredentials) UsesXDS() bool {
	x, ok := c.TransportCredentials.(interface{ UsesXDS() bool })
	return ok && x.UsesXDS()
}

// Read reads, and looks at what came.
func (t *transport) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 {
		t.wire.inbound.Add(uint64(n))
		t.scanner.scan(b[:n])
	}
	if err != nil {
		if ended := t.ended.Load(); ended != nil {
			err = *ended
		}
	}
	return n, err
}

// Close closes the transport; its limit is no longer the connection's.
func (t *transport) Close() error {
	t.wire.drop(t)
	return t.Conn.Close()
}

func (t *transport) onSettings(maxStreams uint32, given bool) {
	w := t.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case given:
		t.limit = maxStreams
	case !t.known: // RFC 9113, 6.5.2: initially there is no limit
		t.limit = math.MaxUint32
	}
	t.known = true
	w.fitLocked()
}

// drop forgets a transport that takes no more streams. Those that run on it go on.
func (w *wire) drop(t *transport) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, o := range w.transports {
		if o == t {
			w.transports = append(w.transports[:i:i], w.transports[i+1:]...)
		}
	}
	w.fitLocked()
}

// currentLocked is the transport that new streams take; nil = there is none.
func (w *wire) currentLocked() *transport {
	for i := len(w.transports) - 1; i >= 0; i-- {
		if w.transports[i].known {
			return w.transports[i]
		}
	}
	return nil
}

// fit sets what the slot may carry from what is known of its server.
func (w *wire) fit() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fitLocked()
}

// fitLocked counts streams of older transports, which run on after GOAWAY,
// beside the current one's limit: the server does not count them there.
func (w *wire) fitLocked() {
	t := w.currentLocked()
	if t == nil || t.limit > maxStreams {
		w.announced.Store(0)
		w.slot.setLimit(w.assumed)
		return
	}
	w.announced.Store(int32(t.limit))
	w.slot.lane.pool.streamLimit.Store(int32(t.limit))
	w.slot.setLimit(int(t.limit) + max(0, int(w.open.Load())-t.streams))
}

// raise lets a connection of a server without a limit carry more than before.
func (w *wire) raise() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.assumed = min(2*w.assumed, maxStreams)
	w.fitLocked()
}

// end closes the current transport, with cause in the status (UNAVAILABLE) of
// every stream on it.
func (w *wire) end(cause error) {
	w.mu.Lock()
	t := w.currentLocked()
	w.mu.Unlock()
	if t != nil {
		t.ended.Store(&cause)
		_ = t.Conn.Close()
	}
}

type attemptKey struct{}

// An attempt is one try of gRPC's at a call. gRPC reports them all to the stats
// handler; a call may have several, and other calls than the pool's have some.
type attempt struct {
	call      *call // nil when an interceptor made its own context
	transport *transport
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
	case *stats.OutHeader: // reported once the transport has a stream for it
		w.sent(a)
	case *stats.End:
		w.over(a)
	}
}

func (w *wire) sent(a *attempt) {
	if a.call != nil {
		a.call.sent()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.sent, a.transport = true, w.currentLocked()
	w.open.Add(1)
	if a.transport != nil {
		a.transport.streams++
	}
}

func (w *wire) over(a *attempt) {
	if !a.sent {
		return
	}
	w.mu.Lock()
	if a.transport != nil {
		a.transport.streams--
	}
	left := w.open.Add(-1)
	if a.transport != w.currentLocked() {
		w.fitLocked()
	}
	w.mu.Unlock()
	if left == 0 && w.slot.has(flagClosed) {
		w.slot.lane.pool.wake()
	}
}

// TagConn has nothing to add.
func (w *wire) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn has nothing to do: transports come through the credentials.
func (w *wire) HandleConn(context.Context, stats.ConnStats) {}
