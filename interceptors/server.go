package interceptors

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A Server governs the calls that a gRPC server receives. Its methods may be
// called from any goroutine; it owns no goroutine, and needs no Close.
type Server struct {
	core
	cfg     ServerConfig
	maxRecv int // what gRPC's own limit is raised or lowered to; 0 leaves it
	tenants tenants
	load    loadReports

	over context.Context // ends with the first Drain: see untouched
	end  context.CancelFunc
}

// ServerMiddleware has the fields of flight.ServerMiddleware in their order, so
// that flight.ServerMiddleware(s.Middleware()) converts it.
type ServerMiddleware struct {
	Stream grpc.StreamServerInterceptor
	Unary  grpc.UnaryServerInterceptor
}

// NewServer returns a Server, or every problem of the configuration.
func NewServer(cfg ServerConfig) (*Server, error) {
	maxRecv := max(int(cfg.Guards.MaxMessageBytes), 0)
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, maxRecv: maxRecv}
	s.epoch = time.Now()
	s.throttler = cfg.Throttler
	s.maxStreams = int64(cfg.MaxActiveStreams)
	s.setGuards(cfg.Guards)
	s.byteCost = cfg.ByteCost
	s.codes, s.pushback = cfg.Codes, cfg.Pushback
	s.maxMessageWait, s.stallTimeout = cfg.MaxMessageWait, cfg.StallTimeout
	s.maxMessageHold = cfg.MaxMessageHold
	s.setWatchdog()
	s.exempt, s.log = cfg.Exempt, cfg.Logger
	s.setPolicies(cfg.Policy)
	s.tenants.init(cfg.MaxTenants, cfg.MaxStreamsPerTenant)
	s.load.init(s)
	s.over, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Middleware returns the interceptors for flight.NewServerWithMiddleware. Put
// them first: what stands before them runs for calls that are then refused.
func (s *Server) Middleware() ServerMiddleware {
	return ServerMiddleware{Stream: s.interceptStream, Unary: s.interceptUnary}
}

// ServerOptions returns the interceptors as options of grpc.NewServer. They run
// before the interceptors of options that follow, and before every middleware
// of flight.NewServerWithMiddleware, authentication included: a tenant that is
// known only after authentication needs [Server.Middleware].
func (s *Server) ServerOptions() []grpc.ServerOption {
	opts := s.load.serverOptions()
	opts = append(opts, grpc.ChainUnaryInterceptor(s.interceptUnary), grpc.ChainStreamInterceptor(s.interceptStream))
	if s.maxRecv > 0 {
		opts = append(opts, grpc.MaxRecvMsgSize(s.maxRecv))
	}
	return opts
}

// Stats returns a snapshot. Reading it changes nothing.
func (s *Server) Stats() Stats {
	st := s.stats()
	st.Tenants = s.tenants.stats()
	return st
}

// Streams lists the open streams, the oldest first.
func (s *Server) Streams() []StreamStats { return s.streamStats() }

// seenKey marks a context whose call a Server governs already: interceptors
// given both as options and as middleware count once.
type seenKey struct{}

func (s *Server) seen(ctx context.Context) bool {
	return ctx.Value(seenKey{}) == s
}

// enter takes the call's slots. On an error nothing is held. The user's
// functions run before anything is taken, so that their panics cost nothing.
func (s *Server) enter(ctx context.Context, cl *call) (context.Context, *Error) {
	name := ""
	if s.cfg.Tenant != nil {
		name = s.cfg.Tenant(ctx, cl.method.name)
	}
	ctx = s.rank(ctx, cl, name)
	if name != "" {
		cl.tenant = s.tenants.get(name)
	}
	if e := s.begin(ctx, cl); e != nil {
		s.tenants.drop(cl.tenant)
		return ctx, s.rejected(cl, e)
	}
	if cl.tenant == nil {
		return ctx, nil
	}
	if hint, ok := s.tenants.take(cl, remaining(ctx, cl.start)); !ok {
		s.close(cl, endedFailed)
		s.tenants.drop(cl.tenant)
		return ctx, s.rejected(cl, cl.describe(&Error{
			Reason: ReasonTenantStreams, Code: s.codes.Quota,
			RetryAfter: s.pushback.delay(hint), Detail: "too many open streams of this tenant",
		}))
	}
	return ctx, nil
}

func (s *Server) rejected(cl *call, e *Error) *Error {
	s.countRejection(cl.tenant, e)
	return e
}

// admit waits at the gate for the call itself. The call is listed already, so
// that Drain can end its wait.
func (s *Server) admit(ctx context.Context, cl *call, cost flowcontrol.Cost) (permit flowcontrol.Permit, err error) {
	if s.throttler != nil && s.policy[cl.kind()] != PolicyTracked {
		began := time.Now()
		permit, err = s.throttler.Acquire(ctx, cost)
		waited := time.Since(began)
		cl.recv.waited(int64(waited))
		traceWait(ctx, int64(waited))
	}
	if err == nil {
		cl.admitted.Store(true)
		return permit, nil
	}
	if e := s.refuse(cl, err); e != nil {
		traceRejection(ctx, e)
		return permit, s.rejected(cl, e)
	}
	return permit, statusOf(ctx, err)
}

func (s *Server) interceptUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	m := s.method(info.FullMethod, false, false)
	if m.exempt || s.seen(ctx) {
		return handler(ctx, req)
	}
	cl := s.newCall(m, false)
	size := sizeOf(req)
	cl.recv.count(&weight{bytes: size})
	ctx, e := s.enter(ctx, cl)
	if e != nil {
		_ = grpc.SetTrailer(ctx, e.trailer())
		traceRejection(ctx, e)
		return nil, e
	}
	hctx, cancel := context.WithCancelCause(context.WithValue(ctx, seenKey{}, s))
	cl.stop = cancel
	defer cancel(nil)
	s.enlist(cl)
	permit, err := s.admit(hctx, cl, flowcontrol.Cost{Messages: 1, Bytes: size})
	if err != nil {
		s.finish(cl, err)
		if e, ok := errors.AsType[*Error](err); ok {
			_ = grpc.SetTrailer(ctx, e.trailer())
		}
		return nil, err
	}
	cl.recv.handle(&weight{bytes: size, batch: true})
	panicked := true
	defer func() {
		if panicked {
			permit.Release(flowcontrol.Ignored)
			s.finish(cl, errPanic)
		}
	}()
	s.load.touch(ctx)
	resp, err = handler(hctx, req)
	panicked = false
	permit.Release(lateness(ctx, cl.start, err))
	cl.recv.handle(&weight{})
	s.adopt(cl, err)
	if e := cl.failure.Load(); e != nil { // Drain ended it, or a gate
		resp, err = nil, e
		_ = grpc.SetTrailer(ctx, e.trailer())
	}
	if err == nil {
		cl.send.count(&weight{bytes: sizeOf(resp)})
	}
	s.finish(cl, err)
	s.load.report(err)
	return resp, err
}

// adopt makes the refusal of a gate that the handler asked by itself one of
// ours. As it is it has no status, and clients would see an unknown error.
func (s *Server) adopt(cl *call, err error) {
	if _, hasStatus := status.FromError(err); hasStatus {
		return
	}
	if e := s.refuse(cl, err); e != nil {
		_ = cl.fail(e)
	}
}

// errPanic is how a call ends whose handler panicked. The panic goes on.
var errPanic = errors.New("interceptors: the handler panicked")

func (s *Server) finish(cl *call, err error) {
	if s.close(cl, endingOf(err)) {
		s.tenants.release(cl)
	}
}

func (s *Server) interceptStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	m := s.method(info.FullMethod, info.IsClientStream, info.IsServerStream)
	ctx := ss.Context()
	if s.seen(ctx) {
		return handler(srv, ss)
	}
	if m.exempt {
		return s.untouched(srv, ss, m, handler)
	}
	cl := s.newCall(m, true)
	ctx, e := s.enter(ctx, cl)
	if e != nil {
		ss.SetTrailer(e.trailer())
		traceRejection(ctx, e)
		return e
	}
	stream := newServerStream(s, cl, ss, ctx)
	s.enlist(cl)
	permit, err := s.admit(stream.ctx, cl, flowcontrol.Cost{Messages: 1})
	// The call's own admission holds nothing: an open stream that moves nothing
	// costs a slot, and its messages take their own room.
	permit.Release(flowcontrol.Ignored)
	if err != nil {
		s.finish(cl, err)
		cl.stop(nil)
		if e, ok := errors.AsType[*Error](err); ok {
			ss.SetTrailer(e.trailer())
		}
		return err
	}
	return s.serve(srv, stream, handler)
}

// untouched lets an exempt stream pass until the server has drained. A client
// watches the health, or the load, for as long as it lives, and one such stream
// holds GracefulStop.
func (s *Server) untouched(srv any, ss grpc.ServerStream, m *method, handler grpc.StreamHandler) error {
	inner := grpc.ServerTransportStreamFromContext(ss.Context())
	stop := context.AfterFunc(s.over, func() {
		abort(inner, &Error{
			Reason: ReasonDraining, Method: m.name, Class: m.class, Code: s.codes.Draining,
			RetryAfter: s.pushback.delay(0), Detail: "the server is shutting down",
		})
	})
	defer stop()
	return handler(srv, ss)
}

// serve runs the handler, and gives back everything however it ends.
func (s *Server) serve(srv any, stream *serverStream, handler grpc.StreamHandler) (err error) {
	cl := stream.call
	panicked := true
	defer func() {
		if panicked {
			err = errPanic
		}
		// Ended first: a RecvMsg that another goroutine is still in gives back by itself what it takes now.
		s.finish(cl, err)
		cl.giveBack(outcome(err))
		cl.stop(nil)
	}()
	s.load.touch(stream.ctx)
	err = handler(srv, stream)
	panicked = false
	s.adopt(cl, err)
	if e := cl.failure.Load(); e != nil {
		stream.SetTrailer(e.trailer())
		err = e
	} else {
		_ = stream.headers.flush() // it fails only on a broken stream, whose end says so
	}
	s.load.report(err)
	return err
}
