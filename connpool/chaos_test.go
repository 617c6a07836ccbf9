package connpool_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
	"github.com/withobsrvr/sluice/interceptors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Half a minute in which the server is cut, drains, refuses, falls silent, says that it
// does not serve and sends GOAWAY every few seconds. Calls that wait for ready
// fail only where their connection was cut under them, only as UNAVAILABLE, and
// hardly ever where gRPC retries; when it is over the pool is as it was.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation of some seconds")
	}
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			const callers = 8
			random, retries := rand.New(rand.NewPCG(seed, 4)), seed%2 == 1
			behavior := connpooltest.Behavior{
				Slow: 20 * time.Millisecond, MaxStreams: 4, MaxAge: 3 * time.Second, AgeGrace: time.Second,
			}
			server, pool := start(t, behavior, func(c *connpool.Config) {
				c.MaxConnections, c.MaxAge = 6, 2*time.Second
				if retries {
					c.ServiceConfig = interceptors.ServiceConfig(interceptors.ServiceConfigOptions{
						MaxAttempts: 5, Services: []string{"sluice.test.Pool"},
					})
				}
				c.HealthCheckInterval, c.ConnectionTimeout, c.IdleTimeout = time.Second, 500*time.Millisecond, 5*time.Second
			})
			var stop atomic.Bool
			var done, lost atomic.Int64
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for !stop.Load() {
						err := connpooltest.Call(t.Context(), pool, grpc.WaitForReady(true))
						done.Add(1)
						if err != nil {
							lost.Add(1)
						}
						if code := status.Code(err); code != codes.OK && code != codes.Unavailable {
							t.Errorf("seed %d: %v", seed, err)
						}
						time.Sleep(50 * time.Millisecond)
					}
				})
			}
			cuts := 0
			for began := time.Now(); time.Since(began) < 30*time.Second; {
				time.Sleep(time.Duration(500+random.IntN(2500)) * time.Millisecond)
				pause := func() { time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond) }
				switch random.IntN(5) {
				case 0:
					cuts++
					server.Stop()
					pause()
					server.Start(behavior)
				case 1:
					server.Drain()
					pause()
					server.Start(behavior)
				case 2:
					server.Refuse(true)
					pause()
					server.Refuse(false)
				case 3:
					cuts++
					server.Silence(true)
					pause()
					server.Silence(false)
				case 4:
					server.Health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
					pause()
					server.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
				}
			}
			time.Sleep(5 * time.Second)
			stop.Store(true)
			wg.Wait()
			bound := int64(callers * cuts)
			if retries {
				bound = int64(cuts)
			}
			require.LessOrEqual(t, lost.Load(), bound)
			t.Logf("seed %d: %d of %d calls were lost to %d cuts", seed, lost.Load(), done.Load(), cuts)
			time.Sleep(10 * time.Minute)
			st := pool.Stats()
			require.Zero(t, st.Streams)
			require.Zero(t, st.Waiting)
			require.Equal(t, 2, st.HealthyConnections, "%+v", st)
			require.LessOrEqual(t, st.TotalConnections, 3)
			require.NoError(t, connpooltest.Call(t.Context(), pool))
		})
	}
}
