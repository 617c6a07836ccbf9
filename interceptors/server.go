package interceptors

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors/internal/payload"
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
	s.setGate(cfg.Throttler)
	s.maxStreams = int64(cfg.MaxActiveStreams)
	s.setGuards(cfg.Guards)
	s.weighUncompressed = cfg.WeighUncompressed
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
// them first: what stands before them runs for calls that are then rejected.
func (s *Server) Middleware() ServerMiddleware {
	return ServerMiddleware{Stream: s.interceptStream, Unary: s.interceptUnary}
}

// ServerOptions returns the interceptors as options of grpc.NewServer. They run
// before the interceptors of options that follow, and before every middleware
// of flight.NewServerWithMiddleware, authentication included: a tenant that is
// known only after authentication needs [Server.Middleware].
//
// With them come pings: a client of which nothing has been heard for a minute is
// asked, and one that is silent for another 20 seconds loses its connection, so a
// half-open link does not hold its streams for gRPC's two hours. Clients may ping
// each ten seconds. Options of the same kind that follow take their place.
func (s *Server) ServerOptions() []grpc.ServerOption {
	opts := append(s.load.serverOptions(),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 10 * time.Second, PermitWithoutStream: true,
		}))
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

// seen reports whether this Server governs the call already: interceptors given
// both as options and as middleware count once.
func (s *Server) seen(ctx context.Context) bool {
	for cl := callFrom(ctx); cl != nil; cl = cl.outer {
		if cl.core == &s.core {
			return true
		}
	}
	return false
}

// enter takes the call's slots. On an error nothing is held. The user's
// functions run before anything is taken, so that their panics cost nothing.
func (s *Server) enter(ctx context.Context, cl *call) (context.Context, *Error) {
	name := ""
	if s.cfg.Tenant != nil {
		name = s.cfg.Tenant(ctx, cl.method.name)
	}
	ctx = s.rank(ctx, cl, name)
	s.nest(ctx, cl)
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
	if cl.gated {
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
	if e := s.reject(cl, err); e != nil {
		traceRejection(ctx, e)
		return permit, s.rejected(cl, e)
	}
	return permit, statusOf(ctx, err)
}

func (s *Server) interceptUnary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (resp any, err error) {
	m := s.method(info.FullMethod, false, false)
	if m.exempt || s.seen(ctx) {
		return handler(ctx, req)
	}
	cl := s.newCall(m, false)
	// A request that breaks a guard is rejected before it takes anything.
	var w weight
	e := s.weigh(cl, req, true, &w)
	if e != nil {
		s.countRejection(nil, e)
	} else {
		ctx, e = s.enter(ctx, cl)
	}
	if e != nil {
		_ = grpc.SetTrailer(ctx, e.trailer(ctx))
		traceRejection(ctx, e)
		return nil, e
	}
	hctx, cancel := context.WithCancelCause(cl.with(ctx))
	cl.stop = cancel
	// What a panic leaves behind is what stands here: a failure, which says nothing
	// of load and so teaches the adaptive limit nothing.
	var permit flowcontrol.Permit
	err = errPanic
	result := flowcontrol.Ignored
	defer func() {
		permit.Release(result)
		s.finish(cl, err)
		cancel(nil)
	}()
	cl.recv.count(&w)
	// Listed before it is admitted, and waiting with hctx: Drain ends the wait too.
	s.enlist(cl)
	var rejection error
	if permit, rejection = s.admit(hctx, cl, flowcontrol.Cost{Messages: 1, Bytes: w.bytes}); rejection != nil {
		err = rejection
		if e, ok := errors.AsType[*Error](err); ok {
			_ = grpc.SetTrailer(ctx, e.trailer(ctx))
		}
		return nil, err
	}
	cl.recv.handle(&w)
	s.load.touch(ctx) // before the handler, which may send the header
	resp, herr := handler(hctx, req)
	result = lateness(ctx, cl.start, herr)
	cl.recv.handle(&weight{})
	s.adopt(cl, herr)
	if e := cl.failure.Load(); e != nil { // Drain ended it, or a gate
		resp, herr = nil, e
		_ = grpc.SetTrailer(ctx, e.trailer(ctx))
	}
	if err = herr; err == nil {
		cl.send.count(&weight{bytes: payload.Size(resp)})
	}
	s.load.report(err)
	return resp, err
}

// adopt makes the rejection of a gate that the handler asked by itself one of
// ours. As it is it has no status, and clients would see an unknown error.
func (s *Server) adopt(cl *call, err error) {
	if _, hasStatus := status.FromError(err); hasStatus {
		return
	}
	if e := s.reject(cl, err); e != nil {
		_ = cl.fail(e)
	}
}

// errPanic is how a call ends whose handler panicked. The panic goes on.
var errPanic = errors.New("interceptors: the handler panicked")

// finish ends the call's bookkeeping once, and that of its tenant with it: a kill
// from outside and the handler's return may come at the same time.
func (s *Server) finish(cl *call, err error) {
	if s.close(cl, endingOf(err)) {
		s.tenants.release(cl)
	}
}

func (s *Server) interceptStream(
	srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
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
		ss.SetTrailer(e.trailer(ctx))
		traceRejection(ctx, e)
		return e
	}
	// From here the stream has its slots. Whatever happens below, a panic of the
	// gate included, the deferred function gives them back.
	stream := newServerStream(s, cl, ss, ctx)
	err = errPanic // until it is known better
	defer func() {
		// Ended first: a RecvMsg that another goroutine is still in gives back by itself what it takes now.
		s.finish(cl, err)
		cl.giveBack(outcome(err))
		cl.stop(nil)
	}()
	s.enlist(cl)
	permit, rejection := s.admit(stream.ctx, cl, flowcontrol.Cost{Messages: 1})
	// The call's own admission holds nothing: an open stream that moves nothing
	// costs a slot, and its messages take their own room.
	permit.Release(flowcontrol.Ignored)
	if err = rejection; err != nil {
		if e, ok := errors.AsType[*Error](err); ok {
			ss.SetTrailer(e.trailer(ctx))
		}
		return err
	}
	err = errPanic
	err = s.serve(srv, stream, handler)
	return err
}

// untouched lets an exempt stream pass until the server has drained. A client
// watches the health, or the load, for as long as it lives, and one such stream
// holds GracefulStop.
func (s *Server) untouched(srv any, ss grpc.ServerStream, m *method, handler grpc.StreamHandler) error {
	inner := transportOf(ss.Context())
	stop := context.AfterFunc(s.over, func() {
		abort(ss.Context(), inner, &Error{
			Reason: ReasonDraining, Method: m.name, Class: m.class, Code: s.codes.Draining,
			RetryAfter: s.pushback.delay(0), Detail: "the server is shutting down",
		})
	})
	defer stop()
	return handler(srv, ss)
}

// serve runs the handler, and makes its end the stream's.
func (s *Server) serve(srv any, stream *serverStream, handler grpc.StreamHandler) error {
	cl := stream.call
	s.load.touch(stream.ctx)
	err := handler(srv, stream)
	s.adopt(cl, err)
	if e := cl.failure.Load(); e != nil {
		stream.SetTrailer(e.trailer(stream.ctx))
		err = e
	} else {
		_ = stream.headers.flush() // it fails only on a broken stream, whose end says so
	}
	s.load.report(err)
	return err
}
