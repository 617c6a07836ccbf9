package connpool

import (
	"context"
	"errors"
	"io"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A stream is what the pool's user holds. gRPC keeps only the inner stream, so
// a dropped stream becomes garbage, and its cleanup tells the pool. Every method
// keeps the wrapper alive for as long as the inner one runs.
type stream struct {
	inner grpc.ClientStream
	call  *call
}

// open runs NewStream on the call's slot. The call is finished when it fails.
func (c *call) open(desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (_ grpc.ClientStream, err error) {
	c.desc = desc
	c.stop = context.AfterFunc(c.Context, func() { c.finish(context.Cause(c.Context)) })
	opened := false
	defer func() {
		if !opened { // also when an interceptor panics
			c.end(err)
		}
	}()
	opts = append(opts[:len(opts):len(opts)], grpc.OnFinish(c.onFinish))
	c.inside.Store(true)
	inner, err := c.slot.cc.NewStream(c, desc, method, opts...)
	c.inside.Store(false)
	if err != nil {
		return nil, err
	}
	opened = true
	c.inner = inner
	s := &stream{inner: inner, call: c}
	if c.slot.lane.pool.cfg.Abandoned == Reclaim {
		// The cleanup runs on a goroutine of the runtime, so it only leaves a
		// note, which the pool's worker reads. Waking the worker here would touch
		// a channel that may belong to a test's bubble.
		c.slot.lane.pool.watchStreams()
		runtime.AddCleanup(s, func(c *call) { c.slot.lane.pool.abandon(c) }, c)
	}
	return s, nil
}

func (s *stream) Header() (metadata.MD, error) {
	defer runtime.KeepAlive(s)
	return s.inner.Header()
}

func (s *stream) Trailer() metadata.MD {
	defer runtime.KeepAlive(s)
	return s.inner.Trailer()
}

func (s *stream) Context() context.Context {
	defer runtime.KeepAlive(s)
	return s.inner.Context()
}

func (s *stream) CloseSend() error {
	defer runtime.KeepAlive(s)
	s.call.closeSent.Store(true)
	return s.inner.CloseSend()
}

func (s *stream) SendMsg(m any) error {
	defer runtime.KeepAlive(s)
	return s.inner.SendMsg(m)
}

// noFalseEOF gives a failure its status back. When gRPC's last attempt by a
// service config fails while it replays what was sent, its error has no status
// and wraps the io.EOF of the send ("max retries exhausted"): errors.Is would
// take a failed stream for a complete one. The status itself is lost; it was one
// of those that the service config retries.
func noFalseEOF(err error) error {
	if err == nil || err == io.EOF || !errors.Is(err, io.EOF) { //nolint:errorlint // the end itself is never wrapped
		return err
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unavailable, err.Error())
}

// RecvMsg ends the call on an error, io.EOF among them, and, where the server
// answers once, on that answer: gRPC has then read the trailer too.
func (s *stream) RecvMsg(m any) error {
	defer runtime.KeepAlive(s)
	s.call.inside.Store(true)
	err := noFalseEOF(s.inner.RecvMsg(m))
	s.call.inside.Store(false)
	if err == nil && s.call.probing.Load() && s.call.probing.Swap(false) {
		s.call.slot.lane.pool.breaker.done(nil, true) // a long stream's end would be late
	}
	if err != nil || !s.call.desc.ServerStreams {
		s.call.end(err)
	}
	return err
}
