package component

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/tap"

	"github.com/withobsrvr/sluice/interceptors"
)

// server is the component's gRPC server.
type server struct {
	grpc         *grpc.Server
	health       *health.Server
	interceptors *interceptors.Server
}

func (c *Component) newServer(s Service) (*server, error) {
	options := append(c.guards(), c.interceptors.ServerOptions()...)
	options = append(options, grpc.ChainStreamInterceptor(streamsOf(c.Role).intercept))
	if secure := c.Security.ServerTLS(); secure != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(secure)))
	}
	srv := &server{grpc: grpc.NewServer(options...), health: health.NewServer(), interceptors: c.interceptors}
	grpc_health_v1.RegisterHealthServer(srv.grpc, srv.health)
	s.Register(srv.grpc)
	return srv, nil
}

// What a client may send and hold at most. All that it has to say is a ticket.
const (
	maxRequestBytes  = 64 << 10
	maxHeaderBytes   = 16 << 10
	maxCallsOfAConn  = 16
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 5 * time.Minute
)

// guards are the options that stand before everything else: what each client may
// send and hold, and who may call.
func (c *Component) guards() []grpc.ServerOption {
	check := func(ctx context.Context, method string) error { return c.Security.MayCall(ctx, method) }
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxCallsOfAConn),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: idleTimeout, Time: keepaliveInterval, Timeout: keepaliveInterval,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime:             keepaliveInterval / 2,
			PermitWithoutStream: true,
		}),
		// Windows of a fixed size: gRPC's own estimate grows to 16 MiB a stream,
		// which would be a queue of batches that nobody counts. Both have to be
		// set, or the connection keeps the default of 64 KiB.
		grpc.StaticStreamWindowSize(windowBytes),
		grpc.StaticConnWindowSize(4 * windowBytes),
		// A unary call that never says what it wants stays in gRPC, before every
		// interceptor: its deadline is all that ends it.
		grpc.InTapHandle(func(ctx context.Context, info *tap.Info) (context.Context, error) {
			if unary[info.FullMethodName] {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, unaryTimeout)
				context.AfterFunc(ctx, cancel) // it ends with the call at the latest
			}
			return ctx, nil
		}),
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo,
			handler grpc.UnaryHandler,
		) (any, error) {
			if err := check(ctx, info.FullMethod); err != nil {
				return nil, err
			}
			answer, err := handler(ctx, req)
			return answer, c.Secrets.status(err)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo,
			handler grpc.StreamHandler,
		) error {
			if err := check(stream.Context(), info.FullMethod); err != nil {
				return err
			}
			return c.Secrets.status(handler(srv, stream))
		}),
	}
}

// unary are the calls of which both sides have one message.
var unary = map[string]bool{
	"/arrow.flight.protocol.FlightService/GetFlightInfo":  true,
	"/arrow.flight.protocol.FlightService/GetSchema":      true,
	"/arrow.flight.protocol.FlightService/PollFlightInfo": true,
	"/grpc.health.v1.Health/Check":                        true,
	"/grpc.health.v1.Health/List":                         true,
}

const unaryTimeout = 30 * time.Second

// keepaliveInterval is after how much silence a connection is pinged, on both
// sides, and half of what a half-open one stays unnoticed.
const keepaliveInterval = 10 * time.Second

// windowBytes is what one stream may have on the wire and unread.
const windowBytes = 256 << 10

// drain lets open streams end, within the grace.
func (s *server) drain(ctx context.Context, grace time.Duration, log *slog.Logger) {
	s.health.Shutdown() // pools stop choosing this server
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := s.interceptors.Drain(ctx); err != nil {
		log.Warn("streams were cut off", "after", grace, "error", err)
	}
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	defer stop()
	s.grpc.GracefulStop()
}
