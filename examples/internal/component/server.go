package component

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/withobsrvr/sluice/interceptors"
)

// server is the component's gRPC server.
type server struct {
	grpc         *grpc.Server
	health       *health.Server
	interceptors *interceptors.Server
}

func (c *Component) newServer(s Service) (*server, error) {
	options := append(c.interceptors.ServerOptions(),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		// Windows of a fixed size: gRPC's own estimate grows to 16 MiB a stream,
		// which would be a queue of batches that nobody counts. Both have to be
		// set, or the connection keeps the default of 64 KiB.
		grpc.StaticStreamWindowSize(windowBytes),
		grpc.StaticConnWindowSize(4*windowBytes),
	)
	srv := &server{grpc: grpc.NewServer(options...), health: health.NewServer(), interceptors: c.interceptors}
	grpc_health_v1.RegisterHealthServer(srv.grpc, srv.health)
	s.Register(srv.grpc)
	return srv, nil
}

// windowBytes is what one stream may have on the wire and unread.
const windowBytes = 256 << 10

// drain lets open streams end, within the grace.
func (s *server) drain(ctx context.Context, log *slog.Logger) {
	s.health.Shutdown() // pools stop choosing this server
	ctx, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	if err := s.interceptors.Drain(ctx); err != nil {
		log.Warn("streams were cut off", "after", drainGrace, "error", err)
	}
	stop := context.AfterFunc(ctx, s.grpc.Stop)
	defer stop()
	s.grpc.GracefulStop()
}

// throughput turns a running count into a rate over the last seconds.
type throughput struct {
	at    time.Time
	count int64
	rate  float64
}

// rateWindow is the shortest time over which a rate means something.
const rateWindow = 500 * time.Millisecond

// update is called by one goroutine at a time.
func (t *throughput) update(count int64, now time.Time) float64 {
	if t.at.IsZero() {
		t.at, t.count = now, count
	}
	if passed := now.Sub(t.at); passed >= rateWindow {
		t.rate = float64(count-t.count) / passed.Seconds()
		t.at, t.count = now, count
	}
	return t.rate
}
