package component

import (
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/interceptors"
)

// pools are the component's connections to others. The interceptors stand on
// each connection, below the pool, so that they see every attempt.
type pools struct {
	client  *interceptors.Client
	manager *connpool.Manager
}

func (c *Component) openPools() error {
	client, err := interceptors.NewClient(interceptors.ClientConfig{Logger: c.Log})
	if err != nil {
		return err
	}
	picker := connpool.RoundRobin
	if !c.Pool.LoadBalancing {
		picker = connpool.FirstHealthy
	}
	manager, err := connpool.NewManager(connpool.Config{
		MaxConnections: c.Pool.Max, MinConnections: c.Pool.Min, IdleTimeout: c.Pool.IdleTimeout,
		HealthCheckInterval: c.Pool.HealthCheckInterval,
		Picker:              picker, Credentials: c.Security.credentials(), Keepalive: keepaliveInterval,
		DialOptions: slices.Concat(client.DialOptions(), c.Security.perCall(), []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxBatchBytes)),
			// Windows of a fixed size: see guards.
			grpc.WithStaticStreamWindowSize(windowBytes), grpc.WithStaticConnWindowSize(4 * windowBytes),
		}),
		Logger: c.Log,
	})
	if err != nil {
		return err
	}
	c.pools = pools{client, manager}
	c.closers = append(c.closers, func() { manager.Close() })
	return nil
}

// Dial returns the pool of connections to an endpoint. It belongs to the
// component.
func (c *Component) Dial(endpoint string) (grpc.ClientConnInterface, error) {
	if err := c.Security.Permits(endpoint); err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	pool, err := c.pools.manager.Get(endpoint)
	if err != nil {
		return nil, err
	}
	return pool.Shared(), nil
}

// roundTrip is the time to an endpoint and back, as health checks measure it; 0
// before the first.
func (p pools) roundTrip(endpoint string) time.Duration {
	for _, s := range p.manager.Stats() {
		if s.Endpoint == endpoint {
			return s.RoundTrip
		}
	}
	return 0
}

// metrics are the figures of the pools that go with each heartbeat.
func (p pools) metrics(put func(prefix, endpoint string, n int)) {
	for _, s := range p.manager.Stats() {
		put(controlplane.MetricPoolTotalPrefix, s.Endpoint, s.TotalConnections)
		put(controlplane.MetricPoolHealthyPrefix, s.Endpoint, s.HealthyConnections)
		put(controlplane.MetricPoolIdlePrefix, s.Endpoint, s.IdleConnections)
	}
}
