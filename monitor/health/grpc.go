package health

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/withobsrvr/sluice/monitor"
)

// healthSteady is how many looks in a row must agree before the health service
// says something new: gRPC clients drop connections on it.
const healthSteady = 2

// ServeGRPC drives a gRPC health server from the monitor's snapshots while
// the monitor is started: the process as a whole ("") and each of the given
// gRPC services are SERVING while the checks of readiness hold and no service
// that this process runs is unhealthy. Load and backpressure change nothing. A
// change is told after two looks that agree. Call the health server's Shutdown
// first in a graceful stop; it then keeps NOT_SERVING.
func (h *Health) ServeGRPC(server *health.Server, services ...string) (stop func()) {
	names := append([]string{""}, slices.Clone(services)...)
	var (
		mu     sync.Mutex
		told   healthpb.HealthCheckResponse_ServingStatus
		seen   healthpb.HealthCheckResponse_ServingStatus
		agreed int
	)
	ctx, cancel := context.WithCancel(context.Background())
	stopTicks := h.monitor.OnTick(func(s *monitor.Snapshot) {
		now := healthpb.HealthCheckResponse_SERVING
		for i := range s.Services {
			if v := &s.Services[i]; v.Local && !v.Working() {
				now = healthpb.HealthCheckResponse_NOT_SERVING
			}
		}
		for _, c := range h.ask(ctx, func(string) bool { return true }) {
			if c.err != nil {
				now = healthpb.HealthCheckResponse_NOT_SERVING
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if now != seen {
			seen, agreed = now, 0
		}
		agreed++
		first := told == healthpb.HealthCheckResponse_UNKNOWN
		if now == told || !first && agreed < healthSteady {
			return
		}
		told = now
		for _, name := range names {
			server.SetServingStatus(name, now)
		}
	})
	return func() { cancel(); stopTicks() }
}
