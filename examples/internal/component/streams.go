package component

import (
	"cmp"
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// The limits of a component's open streams. Each holds at most a few batches, so
// that their number bounds the memory. A source takes from one host as many as a
// processor may have in all: each of those is a stream of its own at the source.
const (
	maxStreams              = 12
	maxStreamsOfAPeer       = 8
	maxSourceStreams        = 16
	maxSourceStreamsOfAPeer = maxStreams
)

const (
	// patience is how long a stream may make no progress while others want its
	// place. One that nobody wants may pause for as long as it likes, as a stream
	// at the tip of a network does.
	patience = 10 * time.Second
	// requestTimeout bounds how long a call may take to say what it wants.
	requestTimeout = 10 * time.Second
)

func streamsOf(role Role) *streams {
	if role == RoleSource {
		return newStreams(maxSourceStreams, maxSourceStreamsOfAPeer)
	}
	return newStreams(maxStreams, maxStreamsOfAPeer)
}

// streams bounds the open streams of a server. One too many takes the place of
// the stream that made no progress for the longest time, if that is longer than
// patience, and is rejected otherwise. A stream counts from its first message on:
// until then it holds nothing, and the limits of connections bound how many there
// are. Health watches, which cost next to nothing, are not counted.
type streams struct {
	limit, ofAPeer int

	mu   sync.Mutex
	open map[*openStream]struct{}
}

func newStreams(limit, ofAPeer int) *streams {
	return &streams{limit: limit, ofAPeer: ofAPeer, open: map[*openStream]struct{}{}}
}

// An openStream is a stream with the time of its last progress.
type openStream struct {
	grpc.ServerStream
	all  *streams
	peer string
	end  context.CancelCauseFunc
	ctx  context.Context

	// silence ends a stream that does not say what it wants. It is stopped by the
	// first message.
	silence *time.Timer

	mu      sync.Mutex
	entered bool
	last    time.Time
}

var (
	errTooManyStreams = status.Error(codes.Unavailable, "too many open streams: ask again later")
	errIdleStream     = status.Error(codes.Unavailable, "the stream made no progress while others waited for its place")
	errNoRequest      = status.Error(codes.DeadlineExceeded, "the call did not say what it wants in time")
)

// intercept runs the handler until it returns, or until its stream has to end: a
// message that its reader does not take ends only with the stream, so the handler
// returns after this did.
func (s *streams) intercept(srv any, inner grpc.ServerStream, info *grpc.StreamServerInfo,
	handler grpc.StreamHandler,
) error {
	if strings.HasPrefix(info.FullMethod, "/grpc.health.v1.Health/") {
		return handler(srv, inner)
	}
	ctx, end := context.WithCancelCause(inner.Context())
	defer end(nil)
	o := &openStream{ServerStream: inner, all: s, peer: peerOf(ctx), ctx: ctx, end: end}
	defer s.leave(o)
	o.silence = time.AfterFunc(requestTimeout, func() { end(errNoRequest) })
	defer o.silence.Stop()
	done := make(chan error, 1)
	go func() { done <- handler(srv, o) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if cause := context.Cause(ctx); cause == errIdleStream || cause == errNoRequest {
		return cause
	}
	return <-done // the client is gone, and the handler is about to notice
}

func (s *streams) enter(o *openStream) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	peers := 0
	var idle, idleOfPeer *openStream
	for other := range s.open {
		idle = longer(idle, other)
		if other.peer == o.peer {
			peers++
			idleOfPeer = longer(idleOfPeer, other)
		}
	}
	switch {
	case peers >= s.ofAPeer:
		idle = idleOfPeer
	case len(s.open) < s.limit:
		s.open[o] = struct{}{}
		return nil
	}
	if time.Since(idle.progressed()) <= patience {
		return errTooManyStreams
	}
	delete(s.open, idle)
	idle.end(errIdleStream)
	s.open[o] = struct{}{}
	return nil
}

func (s *streams) leave(o *openStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o)
}

// longer is the one of both that has been idle longer.
func longer(a, b *openStream) *openStream {
	if a == nil || b.progressed().Before(a.progressed()) {
		return b
	}
	return a
}

func (o *openStream) progress() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = time.Now()
}

func (o *openStream) progressed() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

func (o *openStream) Context() context.Context { return o.ctx }

func (o *openStream) SendMsg(m any) error {
	err := o.ServerStream.SendMsg(m)
	o.progress()
	return err
}

func (o *openStream) RecvMsg(m any) error {
	err := o.ServerStream.RecvMsg(m)
	o.silence.Stop()
	if o.progress(); err != nil {
		return err
	}
	return o.enter()
}

// enter takes the stream's place at its first message.
func (o *openStream) enter() error {
	o.mu.Lock()
	first := !o.entered
	o.entered = true
	o.mu.Unlock()
	if !first {
		return nil
	}
	return o.all.enter(o)
}

// peerOf is the host of a caller.
func peerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	host, _, _ := net.SplitHostPort(p.Addr.String())
	return cmp.Or(host, p.Addr.String())
}
