package component

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A feed is a server of one stream that sends a message of 64 KiB as often as
// its ticket says.
type feed struct {
	listener *bufconn.Listener
	server   *grpc.Server
	handlers atomic.Int64 // that run
}

var feedDesc = grpc.StreamDesc{StreamName: "Get", ServerStreams: true}

func serveFeed(t *testing.T, s *streams) *feed {
	t.Helper()
	f := &feed{listener: bufconn.Listen(1 << 16)}
	f.server = grpc.NewServer(grpc.ChainStreamInterceptor(s.intercept), grpc.StaticStreamWindowSize(1<<16),
		grpc.StaticConnWindowSize(1<<20))
	desc := feedDesc
	desc.Handler = func(_ any, stream grpc.ServerStream) error {
		f.handlers.Add(1)
		defer f.handlers.Add(-1)
		var n wrapperspb.UInt32Value
		if err := stream.RecvMsg(&n); err != nil {
			return err
		}
		for range n.Value {
			if err := stream.SendMsg(wrapperspb.Bytes(make([]byte, 64<<10))); err != nil {
				return err
			}
		}
		return nil
	}
	f.server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Feed", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{desc},
	}, struct{}{})
	go func() { _ = f.server.Serve(f.listener) }()
	return f
}

func (f *feed) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(1<<16), grpc.WithStaticConnWindowSize(1<<20),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.listener.DialContext(ctx) }))
	require.NoError(t, err)
	return conn
}

// open opens a stream. ask says what it wants.
func open(t *testing.T, ctx context.Context, conn *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(ctx, &feedDesc, "/test.Feed/Get")
	require.NoError(t, err)
	return stream
}

func ask(t *testing.T, stream grpc.ClientStream, messages uint32) {
	t.Helper()
	require.NoError(t, stream.SendMsg(wrapperspb.UInt32(messages)))
	require.NoError(t, stream.CloseSend())
}

// drain reads a stream to its end and returns how many messages came.
func drain(stream grpc.ClientStream) (n int, err error) {
	for {
		if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}

// Idle streams by the thousand, of callers that never say what they want and of
// callers that never read, leave the service up: what they hold is bounded, and a
// caller that does both gets its turn when they have been idle for the patience.
func TestIdleStreamsLeaveTheServiceUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const idle = 2000
		f := serveFeed(t, newStreams(maxStreams, maxStreamsOfAPeer))
		ctx, cancel := context.WithCancel(t.Context())
		for range 20 {
			conn := f.dial(t)
			defer conn.Close()
			for i := range idle / 20 {
				stream, err := conn.NewStream(ctx, &feedDesc, "/test.Feed/Get")
				require.NoError(t, err)
				if i%2 == 0 {
					_ = stream.SendMsg(wrapperspb.UInt32(1000)) // and nobody reads
				}
			}
		}
		synctest.Wait()
		require.LessOrEqual(t, f.handlers.Load(), int64(idle/2+maxStreamsOfAPeer),
			"those that said nothing, and as many as may be open")

		conn := f.dial(t)
		defer conn.Close()
		attempts, began := 0, time.Now()
		for {
			attempts++
			stream := open(t, ctx, conn)
			_ = stream.SendMsg(wrapperspb.UInt32(100))
			_ = stream.CloseSend()
			n, err := drain(stream)
			if err == nil {
				require.Equal(t, 100, n)
				break
			}
			require.Equal(t, codes.Unavailable, status.Code(err), "a caller may come back")
			time.Sleep(time.Second)
		}
		require.Greater(t, attempts, 1)
		require.LessOrEqual(t, time.Since(began), patience+2*time.Second)
		cancel()
		f.server.Stop()
		synctest.Wait()
		require.Zero(t, f.handlers.Load(), "also those whose stream was ended")
	})
}

// A call that does not say what it wants is ended; one that said it may pause for
// as long as nobody wants its place.
func TestSilentCallsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := serveFeed(t, newStreams(2, 2))
		defer f.server.Stop()
		conn := f.dial(t)
		defer conn.Close()
		silent, slow := open(t, t.Context(), conn), open(t, t.Context(), conn)
		ask(t, slow, 50)
		began := time.Now()
		_, err := drain(silent)
		require.Equal(t, codes.DeadlineExceeded, status.Code(err))
		require.Equal(t, requestTimeout, time.Since(began))
		time.Sleep(time.Hour)
		n, err := drain(slow)
		require.NoError(t, err)
		require.Equal(t, 50, n)
	})
}

// What one peer holds, another does not wait for; and a stream that moves is never
// ended for another.
func TestStreamsOfOnePeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreams(4, 3)
		stream := func(peer string) *openStream {
			ctx, end := context.WithCancelCause(t.Context())
			o := &openStream{peer: peer, ctx: ctx, end: end}
			o.progress()
			time.Sleep(time.Millisecond)
			return o
		}
		first := stream("a")
		require.NoError(t, s.enter(first))
		require.NoError(t, s.enter(stream("a")))
		require.NoError(t, s.enter(stream("a")))
		require.ErrorIs(t, s.enter(stream("a")), errTooManyStreams)
		other := stream("b")
		require.NoError(t, s.enter(other), "another peer has room")
		require.ErrorIs(t, s.enter(stream("b")), errTooManyStreams, "there is none left, and all of them move")

		time.Sleep(patience + 1)
		other.progress()
		require.NoError(t, s.enter(stream("b")))
		require.ErrorIs(t, context.Cause(first.ctx), errIdleStream)
		require.NoError(t, other.ctx.Err(), "it moves")
		s.leave(first) // its place was given away already
		require.Len(t, s.open, 4)
	})
}
