package interceptors

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// heldHeaders keeps back the headers that a handler, or a middleware inside
// ours, sets before the first message. gRPC retries only what was answered with
// trailers alone, and a response with a single header is not: arrow-go's session
// middleware sets a cookie for every new session, which would make every later
// rejection of the call final. So headers go out with the first message, with
// SendHeader, or at the call's end unless that end is our rejection.
type heldHeaders struct {
	inner interface {
		SetHeader(metadata.MD) error
		SendHeader(metadata.MD) error
	}
	some atomic.Bool // something is held
	mu   sync.Mutex  // guards md and sent; never held across a call out
	md   metadata.MD
	sent bool
}

func (h *heldHeaders) set(md metadata.MD) error {
	h.mu.Lock()
	if h.sent {
		h.mu.Unlock()
		return h.inner.SetHeader(md) // gRPC says what is wrong with that
	}
	h.md = metadata.Join(h.md, md)
	h.some.Store(true)
	h.mu.Unlock()
	return nil
}

// take returns what is held, once; from then on headers pass through.
func (h *heldHeaders) take() metadata.MD {
	h.mu.Lock()
	defer h.mu.Unlock()
	md := h.md
	h.md, h.sent = nil, true
	h.some.Store(false)
	return md
}

func (h *heldHeaders) flush() error {
	if md := h.take(); len(md) > 0 {
		return h.inner.SetHeader(md)
	}
	return nil
}

func (h *heldHeaders) send(md metadata.MD) error {
	if err := h.flush(); err != nil {
		return err
	}
	return h.inner.SendHeader(md)
}

// transportStream is what grpc.SetHeader and its like find in the context.
type transportStream struct {
	grpc.ServerTransportStream
	headers *heldHeaders
}

func (t *transportStream) SetHeader(md metadata.MD) error  { return t.headers.set(md) }
func (t *transportStream) SendHeader(md metadata.MD) error { return t.headers.send(md) }

// transportOf returns gRPC's own stream, below those of the Servers outside.
func transportOf(ctx context.Context) grpc.ServerTransportStream {
	inner := grpc.ServerTransportStreamFromContext(ctx)
	for {
		t, ok := inner.(*transportStream)
		if !ok {
			return inner
		}
		inner = t.ServerTransportStream
	}
}

// withHeaders makes grpc.SetHeader on the context reach h.
func withHeaders(ctx context.Context, h *heldHeaders) context.Context {
	inner := grpc.ServerTransportStreamFromContext(ctx)
	if inner == nil {
		return ctx
	}
	return grpc.NewContextWithServerTransportStream(ctx, &transportStream{inner, h})
}
