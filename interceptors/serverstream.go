package interceptors

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// serverStream is the stream that the handler sees.
//
// A received message is in flight from when its handler gets it until the
// handler asks for the next one or sends something, and holds its room no longer
// than [ServerConfig.MaxMessageHold]. It waits for that room inside RecvMsg, so
// that HTTP/2's window fills and the sender waits. A sent message waits inside
// SendMsg, before it is sent. It holds no room: a slow reader would hold it
// against all the others.
type serverStream struct {
	grpc.ServerStream
	*call
	ctx     context.Context
	patient context.Context // ctx, for the gate: a message may wait as long as its stream lives
	headers heldHeaders
	paced   atomic.Bool
	first   bool // the next message received is the first
}

func newServerStream(s *Server, cl *call, ss grpc.ServerStream, ctx context.Context) *serverStream {
	stream := &serverStream{ServerStream: ss, call: cl, first: true}
	stream.headers.inner = ss
	stream.paced.Store(s.paces(cl))
	sctx, stop := context.WithCancelCause(cl.with(ctx))
	cl.stop = stop
	stream.ctx = withHeaders(sctx, &stream.headers)
	stream.patient = flowcontrol.WithoutEarlyRejection(stream.ctx)
	inner := transportOf(ctx)
	cl.abort = func(e *Error) { abort(ctx, inner, e) }
	return stream
}

// abort ends the RPC on the wire. A handler that is blocked in SendMsg because
// its peer does not read cannot be reached through its context: gRPC waits for
// the window with a context of its own. Writing the status ends that one too.
// The method is not in gRPC's interface; where it is missing only the handler's
// context is cancelled.
func abort(ctx context.Context, inner grpc.ServerTransportStream, e *Error) {
	w, ok := inner.(interface{ WriteStatus(*status.Status) error })
	if !ok {
		return
	}
	_ = inner.SetTrailer(e.trailer(ctx))
	_ = w.WriteStatus(e.GRPCStatus()) // it fails when the stream has ended, which is as good
}

func (s *serverStream) Context() context.Context { return s.ctx }

func (s *serverStream) SetHeader(md metadata.MD) error { return s.headers.set(md) }

func (s *serverStream) SendHeader(md metadata.MD) error { return s.headers.send(md) }

// RecvMsg weighs what it receives and waits for its room. The message before it
// is done: what that held is given back first.
func (s *serverStream) RecvMsg(m any) error {
	now := s.now()
	s.receive(now)
	if e := s.failure.Load(); e != nil {
		s.recv.leave(now)
		return e
	}
	err := s.ServerStream.RecvMsg(m)
	now = s.now()
	if err != nil {
		s.recv.leave(now)
		return err
	}
	if s.first {
		s.refine(m)
	}
	c := s.core
	var w weight
	if e := c.weigh(s.call, m, true, &w); e != nil {
		s.recv.leave(now)
		traceRejection(s.ctx, e)
		return s.fail(e)
	}
	switch {
	case !s.method.clientStream: // the one request of a server stream was paid for by its admission
		s.recv.passed(now, &w)
		return nil
	case !s.paced.Load():
		s.recv.arrived(now, &w)
		return nil
	}
	s.recv.passed(now, &w)
	return s.take(&w, now)
}

// refine classes the call by its first message, which says more than its method.
func (s *serverStream) refine(m any) {
	s.first = false
	if s.method.refine {
		s.class.Store(uint32(classify(s.method, m)))
		s.paced.Store(s.core.paces(s.call))
	}
}

// take waits for the message's room.
func (s *serverStream) take(w *weight, now int64) error {
	permit, then, err := s.core.acquire(s.patient, s.call, s.core.cost(w))
	if traceWait(s.ctx, then-now); err != nil {
		s.recv.waited(then - now)
		return statusOf(s.ctx, err)
	}
	s.hold(permit, w, then, then-now)
	return nil
}

func (s *serverStream) SendMsg(m any) error {
	if e := s.failure.Load(); e != nil {
		return e
	}
	if s.method.clientStream {
		s.answer()
	}
	var w weight
	_ = s.core.weigh(s.call, m, false, &w) // unguarded: it rejects nothing
	now, throttled := s.now(), int64(0)
	if s.paced.Load() && s.method.serverStream {
		then, err := s.core.pace(s.patient, s.call, s.core.cost(&w))
		now, throttled = then, then-now
		if traceWait(s.ctx, throttled); err != nil {
			s.send.waited(throttled)
			return statusOf(s.ctx, err)
		}
	}
	if s.headers.some.Load() {
		if err := s.headers.flush(); err != nil {
			return err
		}
	}
	s.send.enter(now, throttled, &w)
	err := s.ServerStream.SendMsg(m)
	if now = s.now(); err != nil {
		s.send.leave(now)
		return err
	}
	s.send.passed(now, &w)
	return nil
}

// statusOf gives a context's end its status, and leaves a rejection as it is.
func statusOf(ctx context.Context, err error) error {
	if e, ok := context.Cause(ctx).(*Error); ok {
		return e
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	return err
}
