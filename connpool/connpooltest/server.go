package connpooltest

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

// Methods of the service that every [Server] has. Messages are
// grpc_health_v1.HealthCheckRequest and HealthCheckResponse, which every gRPC
// program links already.
const (
	// Unary answers at once, or as the Behavior says.
	Unary = "/sluice.test.Pool/Unary"
	// ServerStream sends messages until it is released, told to end, or cancelled.
	ServerStream = "/sluice.test.Pool/ServerStream"
	// ClientStream reads to the end and answers once.
	ClientStream = "/sluice.test.Pool/ClientStream"
	// BidiStream answers each message, and ends after the client's last.
	BidiStream = "/sluice.test.Pool/BidiStream"
)

// Behavior says how a [Server] misbehaves. The zero value behaves.
type Behavior struct {
	// MaxStreams is the server's stream limit a connection; 0 = gRPC's, none.
	MaxStreams uint32
	// MaxAge sends GOAWAY to connections of that age, and closes them AgeGrace
	// later though streams run; 0 = never.
	MaxAge, AgeGrace time.Duration
	// Slow delays every answer.
	Slow time.Duration
	// FailEvery fails one unary call in so many with UNAVAILABLE; 0 = none.
	FailEvery int
	// Messages that a ServerStream sends before it waits for Release; 0 = 1.
	Messages int
	// NoHealth leaves grpc.health.v1 out.
	NoHealth bool
	// Options are added to the server's.
	Options []grpc.ServerOption
}

// A Server is a gRPC server on an in-memory network. It can be stopped and
// started again, made to refuse connections, and made silent. Use it in a
// testing/synctest bubble or outside. Its methods may be called by any goroutine.
type Server struct {
	// Health is the health service's switchboard.
	Health *health.Server

	mu       sync.Mutex // guards what follows
	behavior Behavior
	grpc     *grpc.Server
	listener *bufconn.Listener
	conns    map[*conn]struct{}
	release  chan struct{}
	refusing bool
	silent   bool
	serving  sync.WaitGroup

	dials, accepted, unary, streams, running, cancelled atomic.Int64
}

// NewServer starts a server.
func NewServer(b Behavior) *Server {
	s := &Server{Health: health.NewServer(), conns: map[*conn]struct{}{}, release: make(chan struct{})}
	s.Start(b)
	return s
}

// Start starts a stopped server anew with another behavior.
func (s *Server) Start(b Behavior) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grpc != nil {
		panic("connpooltest: Start of a running server")
	}
	s.behavior = b
	s.listener = bufconn.Listen(256 << 10)
	opts := b.Options
	if b.MaxStreams > 0 {
		opts = append(opts[:len(opts):len(opts)], grpc.MaxConcurrentStreams(b.MaxStreams))
	}
	if b.MaxAge > 0 {
		grace := b.AgeGrace
		if grace == 0 {
			grace = time.Hour
		}
		age := keepalive.ServerParameters{MaxConnectionAge: b.MaxAge, MaxConnectionAgeGrace: grace}
		opts = append(opts[:len(opts):len(opts)], grpc.KeepaliveParams(age))
	}
	s.grpc = grpc.NewServer(opts...)
	s.grpc.RegisterService(&grpc.ServiceDesc{
		ServiceName: "sluice.test.Pool",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: s.unaryHandler}},
		Streams: []grpc.StreamDesc{
			{StreamName: "ServerStream", Handler: s.serverStream, ServerStreams: true},
			{StreamName: "ClientStream", Handler: s.clientStream, ClientStreams: true},
			{StreamName: "BidiStream", Handler: s.bidiStream, ServerStreams: true, ClientStreams: true},
		},
	}, s)
	if !b.NoHealth {
		healthpb.RegisterHealthServer(s.grpc, s.Health)
	}
	g, l := s.grpc, s.listener
	s.serving.Go(func() { _ = g.Serve(l) })
}

// Stop cuts every connection, as a crash does; dials are refused until Start.
func (s *Server) Stop() { s.stop((*grpc.Server).Stop) }

// Drain sends GOAWAY, waits for running calls, and stops.
func (s *Server) Drain() { s.stop((*grpc.Server).GracefulStop) }

func (s *Server) stop(how func(*grpc.Server)) {
	s.mu.Lock()
	g := s.grpc
	s.grpc = nil
	s.mu.Unlock()
	if g != nil {
		how(g)
		s.serving.Wait()
	}
}

// Release ends all streams that wait for it, now and from now on.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.release:
	default:
		close(s.release)
	}
}

// Refuse makes the server refuse new connections, or take them again.
func (s *Server) Refuse(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = refuse
}

// Silence makes the network swallow what either side sends, as a half-open
// connection does, or heals it for the connections that come after.
func (s *Server) Silence(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = silent
	for c := range s.conns {
		if silent {
			c.silent.Store(true)
		}
	}
}

// Counts is what a server has seen.
type Counts struct {
	// Dials it was asked for, connections it took, and those that are open.
	Dials, Accepted, Open int
	// Unary calls and streams so far, streams that run now, and streams whose
	// client cancelled them.
	Unary, Streams, Running, Cancelled int
}

// Counts returns a snapshot.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	open := len(s.conns)
	s.mu.Unlock()
	return Counts{
		Dials: int(s.dials.Load()), Accepted: int(s.accepted.Load()), Open: open, Unary: int(s.unary.Load()),
		Streams: int(s.streams.Load()), Running: int(s.running.Load()), Cancelled: int(s.cancelled.Load()),
	}
}

// Dial connects to the server. It is a dialer for grpc.WithContextDialer.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	s.dials.Add(1)
	s.mu.Lock()
	l, refusing := s.listener, s.refusing || s.grpc == nil
	s.mu.Unlock()
	if refusing {
		// No gRPC status: with one, gRPC fails calls that wait for ready too.
		return nil, errors.New("connection refused by the test")
	}
	inner, err := l.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	s.accepted.Add(1)
	c := &conn{Conn: inner, server: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	c.silent.Store(s.silent)
	return c, nil
}

// DialOptions connect a client or a pool to this server, whatever its target's
// address; use [Target] with them. Transport security is the caller's:
// insecure.NewCredentials(), unless the Behavior has some.
func (s *Server) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(s.Dial)}
}

// Target is a name that needs no resolving.
const Target = "passthrough:///bufconn"

// A conn can fall silent: what it writes vanishes, and nothing more is read.
type conn struct {
	net.Conn
	server *Server
	silent atomic.Bool
}

func (c *conn) Write(b []byte) (int, error) {
	if c.silent.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err != nil || !c.silent.Load() {
			return n, err
		}
	}
}

func (c *conn) Close() error {
	c.server.mu.Lock()
	delete(c.server.conns, c)
	c.server.mu.Unlock()
	return c.Conn.Close()
}

func (s *Server) snapshot() (Behavior, chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.behavior, s.release
}

func (s *Server) unaryHandler(
	_ any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor,
) (any, error) {
	in := new(healthpb.HealthCheckRequest)
	if err := decode(in); err != nil {
		return nil, err
	}
	if around == nil {
		return s.answer(ctx, in)
	}
	return around(ctx, in, &grpc.UnaryServerInfo{Server: s, FullMethod: Unary}, s.answer)
}

func (s *Server) answer(ctx context.Context, _ any) (any, error) {
	n := s.unary.Add(1)
	b, _ := s.snapshot()
	if err := wait(ctx, b.Slow); err != nil {
		return nil, err
	}
	if b.FailEvery > 0 && n%int64(b.FailEvery) == 0 {
		return nil, status.Error(codes.Unavailable, "failed by the test")
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}

func (s *Server) enter() func(context.Context) {
	s.streams.Add(1)
	s.running.Add(1)
	return func(ctx context.Context) {
		s.running.Add(-1)
		if ctx.Err() != nil {
			s.cancelled.Add(1)
		}
	}
}

func (s *Server) serverStream(_ any, stream grpc.ServerStream) error {
	defer s.enter()(stream.Context())
	b, release := s.snapshot()
	if err := stream.RecvMsg(new(healthpb.HealthCheckRequest)); err != nil {
		return err
	}
	for range max(b.Messages, 1) {
		if err := wait(stream.Context(), b.Slow); err != nil {
			return err
		}
		if err := stream.SendMsg(new(healthpb.HealthCheckResponse)); err != nil {
			return err
		}
	}
	select {
	case <-release:
		return nil
	case <-stream.Context().Done():
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

func (s *Server) clientStream(_ any, stream grpc.ServerStream) error {
	defer s.enter()(stream.Context())
	for {
		err := stream.RecvMsg(new(healthpb.HealthCheckRequest))
		if err == io.EOF {
			b, _ := s.snapshot()
			if err := wait(stream.Context(), b.Slow); err != nil {
				return err
			}
			return stream.SendMsg(new(healthpb.HealthCheckResponse))
		}
		if err != nil {
			return err
		}
	}
}

func (s *Server) bidiStream(_ any, stream grpc.ServerStream) error {
	defer s.enter()(stream.Context())
	for {
		err := stream.RecvMsg(new(healthpb.HealthCheckRequest))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(new(healthpb.HealthCheckResponse)); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
