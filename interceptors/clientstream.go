package interceptors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// clientStream is the stream that the caller holds. It never asks the inner
// stream for its context: gRPC commits a call to its attempt when that is asked
// for, and retries no more. arrow-go's cookie middleware asks every stream; when
// it stands outside these interceptors it gets the caller's context from here.
type clientStream struct {
	client  *Client
	method  *method
	ctx     context.Context
	patient context.Context // ctx, for the gate: a message may wait as long as its stream lives
	connect connector
	opts    []grpc.CallOption

	current *current
	tries   int
	owns    bool // this Client retries its rejections

	// turn is taken to read the first answer: by RecvMsg, or by Header to learn
	// whether the call was rejected. outcome and early are what Header found.
	turn    chan struct{}
	outcome error
	early   *emptypb.Empty

	// request and closed are replayed by a retry; received and header end what may be retried.
	request          any
	closed           bool
	received, header atomic.Bool
	paced            atomic.Bool
}

// current is the attempt that runs. It is apart from the stream, because it is
// what remains of a stream that was lost.
type current struct {
	a       atomic.Pointer[attempt]
	closing atomic.Bool // CloseSend was called
}

func (c *Client) newClientStream(
	ctx context.Context, m *method, connect connector, opts []grpc.CallOption, a *attempt,
) *clientStream {
	s := &clientStream{
		client: c, method: m, ctx: ctx, connect: connect, opts: opts,
		current: &current{}, turn: make(chan struct{}, 1),
	}
	s.paced.Store(c.paces(a.call))
	s.patient = flowcontrol.WithoutEarlyRejection(ctx)
	s.current.a.Store(a)
	c.remember(s)
	return s
}

// remember watches whether the stream is lost. A cleanup runs on a goroutine of
// the runtime: all that it does is to note the loss.
func (c *Client) remember(s *clientStream) {
	if c.cfg.ReapInterval <= 0 {
		return
	}
	runtime.AddCleanup(s, c.noteLost, s.current)
	c.watchLost()
}

func (s *clientStream) Context() context.Context { return s.ctx }

// Header waits for the header of the attempt that is answered, as gRPC does with
// its own retries: an attempt that was rejected has none.
func (s *clientStream) Header() (metadata.MD, error) {
	for {
		a := s.current.a.Load()
		md, err := a.Header()
		if len(md) > 0 {
			s.header.Store(true)
			return md, err
		}
		if !s.owns || s.received.Load() || !s.retried(a) {
			return md, err
		}
	}
}

// retried reports whether an attempt that ended without a header has been
// followed by another one. It learns the attempt's end by receiving: there is no
// message, because gRPC sends a header before one. If another transport does
// not, the message is kept, as the unknown fields of an empty one, for RecvMsg.
func (s *clientStream) retried(a *attempt) bool {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.current.a.Load() != a {
		return true
	}
	if s.received.Load() || s.outcome != nil || s.early != nil {
		return false
	}
	var m emptypb.Empty
	err := s.recv(a, &m)
	switch {
	case err == nil:
		s.early = &m
		return false
	case !errors.Is(err, io.EOF) && s.retry(err):
		return true
	}
	s.outcome = err
	return false
}

func (s *clientStream) Trailer() metadata.MD { return s.current.a.Load().Trailer() }

func (s *clientStream) CloseSend() error {
	s.closed = true
	s.current.closing.Store(true)
	return s.current.a.Load().CloseSend()
}

func (s *clientStream) SendMsg(m any) error {
	a := s.current.a.Load()
	if !s.method.clientStream {
		s.request = m // the only one of a server stream: a retry sends it again
	}
	if s.method.refine && a.send.empty() {
		a.class.Store(uint32(classify(s.method, m)))
		s.paced.Store(s.client.paces(a.call))
	}
	err := s.send(a, m)
	runtime.KeepAlive(s) // or the collector takes a stream for lost that is in use
	return err
}

func (s *clientStream) send(a *attempt, m any) error {
	c := &s.client.core
	if s.method.clientStream {
		a.answer()
	}
	var w weight
	_ = c.weigh(a.call, m, false, &w) // unguarded: it rejects nothing
	now, throttled := a.now(), int64(0)
	if s.paced.Load() && s.method.clientStream {
		then, err := c.pace(s.patient, a.call, c.cost(&w))
		now, throttled = then, then-now
		if traceWait(s.ctx, throttled); err != nil {
			a.send.waited(throttled)
			return statusOf(s.ctx, err)
		}
	}
	a.send.enter(now, throttled, &w)
	err := a.ClientStream.SendMsg(m)
	if now = a.now(); err == nil {
		a.send.passed(now, &w)
		return nil
	}
	a.send.leave(now)
	if e := a.failure.Load(); e != nil && err != io.EOF {
		return e
	}
	return err
}

func (s *clientStream) RecvMsg(m any) (err error) {
	defer runtime.KeepAlive(s)
	if s.received.Load() || !s.owns {
		return s.recv(s.current.a.Load(), m)
	}
	// Until the first answer a Header in another goroutine may read as well. After
	// it nothing is retried, and gRPC's rule of one reader is enough.
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if early := s.early; early != nil {
		s.early = nil
		err = convert(early, m)
	} else if err = s.outcome; err == nil {
		err = s.recv(s.current.a.Load(), m)
		for err != nil && !errors.Is(err, io.EOF) && s.retry(err) {
			err = s.recv(s.current.a.Load(), m)
		}
	}
	if err == nil || errors.Is(err, io.EOF) {
		s.client.budget.success(s.tries > 0)
		s.received.Store(true)
	}
	return err
}

// convert reads a message that was received as another type.
func convert(from proto.Message, to any) error {
	m, ok := to.(proto.Message)
	if !ok {
		return fmt.Errorf("interceptors: the message received is no %T", to)
	}
	b, err := proto.Marshal(from)
	if err != nil {
		return err
	}
	return proto.Unmarshal(b, m)
}

func (s *clientStream) recv(a *attempt, m any) error {
	a.receive(a.now())
	err := a.ClientStream.RecvMsg(m)
	now := a.now()
	if err != nil {
		a.recv.leave(now)
		return s.ended(a, err)
	}
	c := &s.client.core
	var w weight
	if e := c.weigh(a.call, m, true, &w); e != nil {
		a.recv.leave(now)
		traceRejection(s.ctx, e)
		return a.fail(e)
	}
	switch {
	case !s.method.serverStream:
		a.recv.passed(now, &w)
		s.client.end(a.call, nil) // the one answer is the end: nobody reads further
		return nil
	case !s.paced.Load():
		a.recv.arrived(now, &w)
		return nil
	}
	a.recv.passed(now, &w)
	permit, then, err := c.acquire(s.patient, a.call, c.cost(&w))
	if traceWait(s.ctx, then-now); err != nil {
		a.recv.waited(then - now)
		a.stop(err)
		return statusOf(s.ctx, err)
	}
	a.hold(permit, &w, then, then-now)
	return nil
}

// ended closes the accounting of the attempt and says why it ended: where this
// package ended it, its own error, and not the CANCELED that gRPC makes of it.
func (s *clientStream) ended(a *attempt, err error) error {
	if errors.Is(err, io.EOF) {
		s.client.end(a.call, nil)
		return err
	}
	s.client.end(a.call, err)
	if e := a.failure.Load(); e != nil {
		return e
	}
	return err
}

// retry starts the next attempt of a server stream that was rejected, after the
// delay that its server asked for, and sends its request again.
func (s *clientStream) retry(err error) bool {
	// A caller that has seen a header, or a message, has seen an answer. What a client
	// stream has sent is not kept: replaying it may run into memory, and twice into effects.
	if s.method.clientStream || s.received.Load() || s.header.Load() {
		return false
	}
	for ; s.client.again(s.ctx, err, s.tries); s.tries++ {
		var a *attempt
		if a, err = s.client.attempt(s.ctx, s.method, s.connect, s.opts); err != nil {
			continue
		}
		s.tries++
		s.current.a.Store(a)
		a.class.Store(uint32(classify(s.method, s.request)))
		if s.request != nil && s.send(a, s.request) == nil && s.closed {
			_ = a.CloseSend() // RecvMsg has the error
		}
		return true
	}
	return false
}
