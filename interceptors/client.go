package interceptors

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors/internal/payload"
)

// A Client governs the calls that a gRPC client makes. Its methods may be
// called from any goroutine; it owns no goroutine, and needs no Close.
type Client struct {
	core
	cfg     ClientConfig
	maxRecv int // what gRPC's own limit is raised or lowered to; 0 leaves it
	budget  retryBudget

	retried   atomic.Int64
	abandoned atomic.Int64

	reapMu  sync.Mutex
	reaping bool
	lost    []lostStream
}

// ClientMiddleware has the fields of flight.ClientMiddleware in their order, so
// that flight.ClientMiddleware(c.Middleware()) converts it.
type ClientMiddleware struct {
	Stream grpc.StreamClientInterceptor
	Unary  grpc.UnaryClientInterceptor
}

// NewClient returns a Client, or every problem of the configuration.
func NewClient(cfg ClientConfig) (*Client, error) {
	maxRecv := max(int(cfg.Guards.MaxMessageBytes), 0)
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, maxRecv: maxRecv}
	c.epoch = time.Now()
	c.setGate(cfg.Throttler)
	c.maxStreams = int64(cfg.MaxActiveStreams)
	c.setGuards(cfg.Guards)
	c.weighUncompressed = cfg.WeighUncompressed
	c.codes, c.pushback = cfg.Codes, cfg.Pushback
	c.maxMessageWait, c.stallTimeout, c.sparesReaders = cfg.MaxMessageWait, cfg.StallTimeout, true
	c.maxMessageHold = cfg.MaxMessageHold
	c.setWatchdog()
	c.exempt, c.log = cfg.Exempt, cfg.Logger
	c.setPolicies(cfg.Policy)
	return c, nil
}

// Middleware returns the interceptors for flight.NewClientWithMiddleware. Put
// them last, nearest to the wire: arrow-go's cookie middleware outside them then
// leaves gRPC's retries alone.
func (c *Client) Middleware() ClientMiddleware {
	return ClientMiddleware{Stream: c.interceptStream, Unary: c.interceptUnary}
}

// DialOptions returns the interceptors as options of grpc.NewClient.
func (c *Client) DialOptions() []grpc.DialOption {
	opts := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(c.interceptUnary), grpc.WithChainStreamInterceptor(c.interceptStream),
	}
	if c.maxRecv > 0 {
		opts = append(opts, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(c.maxRecv)))
	}
	return opts
}

// Stats returns a snapshot. Reading it changes nothing.
func (c *Client) Stats() Stats {
	s := c.stats()
	s.Abandoned, s.Retried = c.abandoned.Load(), c.retried.Load()
	return s
}

// Streams lists the open streams, the oldest first.
func (c *Client) Streams() []StreamStats { return c.streamStats() }

// enter takes the call's slots and waits for its admission. On an error, or a panic
// of the gate, nothing is held. The slots come first, so that what waits for the
// gate is bounded as well.
func (c *Client) enter(ctx context.Context, cl *call, cost flowcontrol.Cost) (flowcontrol.Permit, error) {
	if e := c.begin(ctx, cl); e != nil {
		c.countRejection(nil, e)
		traceRejection(ctx, e)
		return flowcontrol.Permit{}, e
	}
	if c.nest(ctx, cl); !cl.gated {
		return flowcontrol.Permit{}, nil
	}
	admitted := false
	defer func() {
		if !admitted { // or the gate panicked
			c.close(cl, endedFailed)
		}
	}()
	began := time.Now()
	permit, err := c.throttler.Acquire(ctx, cost)
	waited := int64(time.Since(began))
	cl.send.waited(waited)
	traceWait(ctx, waited)
	if err == nil {
		admitted = true
		return permit, nil
	}
	if e := c.reject(cl, err); e != nil {
		c.countRejection(nil, e)
		traceRejection(ctx, e)
		return permit, e
	}
	return permit, statusOf(ctx, err)
}

func (c *Client) interceptUnary(
	ctx context.Context, name string, req, reply any, cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	m := c.method(name, false, false)
	if m.exempt {
		return invoker(ctx, name, req, reply, cc, opts...)
	}
	ctx, owns := c.announce(ctx, m)
	// Each attempt is a call of its own. It has given back all that it held before
	// the next one waits, so retries of many calls cannot block each other.
	for attempt := 0; ; attempt++ {
		err := c.unary(ctx, m, req, reply, cc, invoker, opts)
		if err == nil {
			c.budget.success(attempt > 0)
			return nil
		}
		if !owns || !c.again(ctx, err, attempt) {
			return err
		}
	}
}

func (c *Client) unary(
	ctx context.Context, m *method, req, reply any, cc *grpc.ClientConn,
	invoker grpc.UnaryInvoker, opts []grpc.CallOption,
) (err error) {
	cl := c.newCall(m, false)
	w := weight{bytes: payload.Size(req), batch: true}
	permit, err := c.enter(ctx, cl, flowcontrol.Cost{Messages: 1, Bytes: w.bytes})
	if err != nil {
		return err
	}
	cl.send.count(&w)
	cl.recv.handle(&w) // the request, until it is answered
	cl.admitted.Store(true)
	c.enlist(cl)
	err = errPanic
	defer func() {
		permit.Release(outcome(err))
		c.close(cl, endingOf(err))
	}()
	if err = invoker(cl.with(ctx), m.name, req, reply, cc, opts...); err != nil {
		return err
	}
	// The reply is decoded by now, as far as protobuf goes: the guard keeps it from
	// Arrow's decoder. gRPC's own limit has bounded its size before.
	if e := c.weigh(cl, reply, true, &w); e != nil {
		traceRejection(ctx, e)
		err = cl.fail(e)
		return err
	}
	cl.recv.count(&w)
	return nil
}

func (c *Client) interceptStream(
	ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, name string,
	streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	m := c.method(name, desc.ClientStreams, desc.ServerStreams)
	if m.exempt {
		return streamer(ctx, desc, cc, name, opts...)
	}
	c.reap()
	ctx, owns := c.announce(ctx, m)
	connect := func(ctx context.Context, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return streamer(ctx, desc, cc, name, opts...)
	}
	for attempt := 0; ; attempt++ {
		a, err := c.attempt(ctx, m, connect, opts)
		if err == nil {
			s := c.newClientStream(ctx, m, connect, opts, a)
			s.tries, s.owns = attempt, owns
			return s, nil
		}
		if !owns || !c.again(ctx, err, attempt) {
			return nil, err
		}
	}
}

// An attempt is one try of a call: what goes on the wire, and its accounting.
// The call is not reached from the stream that the user holds alone, so that
// losing that stream is noticed.
type attempt struct {
	grpc.ClientStream
	*call
}

func (c *Client) attempt(ctx context.Context, m *method, connect connector, opts []grpc.CallOption) (*attempt, error) {
	cl := c.newCall(m, true)
	permit, err := c.enter(ctx, cl, flowcontrol.Cost{Messages: 1})
	// As on the server, an open stream holds a slot, and its messages take their own
	// room: a stream that moves nothing must not hold any.
	permit.Release(flowcontrol.Ignored)
	if err != nil {
		return nil, err
	}
	actx, stop := context.WithCancelCause(cl.with(ctx))
	cl.stop = stop
	cl.admitted.Store(true)
	c.enlist(cl)
	// OnFinish alone is not told of every end: a dropped option, a failed
	// creation, a transport that is not gRPC's. close counts the first of all.
	context.AfterFunc(actx, func() { c.end(cl, context.Cause(actx)) })
	opts = append(opts[:len(opts):len(opts)], grpc.OnFinish(func(err error) { c.end(cl, err) }))
	err = errPanic // until it is known better
	defer func() {
		if err != nil {
			c.end(cl, err)
		}
	}()
	inner, err := connect(actx, opts...)
	if err != nil {
		return nil, err
	}
	return &attempt{inner, cl}, nil
}

type connector func(context.Context, ...grpc.CallOption) (grpc.ClientStream, error)

// end closes the call's accounting and frees its context.
func (c *Client) end(cl *call, err error) {
	if !c.close(cl, endingOf(err)) {
		return
	}
	cl.giveBack(outcome(err))
	cl.stop(errEnded)
}

// errEnded is the cause of the context of a call that is over.
var errEnded = errors.New("interceptors: the call has ended")
