package server_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

// However long the control plane was away, its agents are back within their
// MaxBackoff, and not all at once.
func TestAgentsComeBackWithinTheirBackoff(t *testing.T) {
	for _, away := range []time.Duration{2 * time.Second, 45 * time.Second, 10 * time.Minute} {
		t.Run(away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const agents, maxBackoff = 100, 10 * time.Second
				p := startPlane(t, server.Config{})
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				defer running.Wait()
				defer stop()
				all := make([]*agent.Agent, agents)
				for i := range all {
					a, err := agent.New(agent.Config{
						Endpoint: "passthrough:///plane",
						DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
							if listener := p.listener.Load(); listener != nil {
								return listener.DialContext(ctx)
							}
							return nil, net.ErrClosed
						})},
						Component: controlplane.Component{ID: fmt.Sprint("component", i)},
						Report:    func() backpressure.Report { return backpressure.Report{MaxInFlight: 100} },
					})
					require.NoError(t, err)
					all[i] = a
					running.Go(func() { a.Run(ctx) })
				}
				time.Sleep(5 * time.Second)
				p.stop()
				time.Sleep(away)
				p.start(server.Config{})
				began := time.Now()
				back := make([]time.Duration, agents)
				for n := 0; n < agents; time.Sleep(50 * time.Millisecond) {
					for i, a := range all {
						if back[i] == 0 && a.Mode() == backpressure.Coordinated {
							back[i] = max(time.Since(began), 1)
							n++
						}
					}
					require.Less(t, time.Since(began), 3*time.Minute, "%d of %d are back", n, agents)
				}
				slices.Sort(back)
				t.Logf("the median was back after %v, the last after %v", back[agents/2], back[agents-1])
				require.LessOrEqual(t, back[agents-1], min(maxBackoff, 2*away)+time.Second+learning)
				if away > time.Minute {
					require.Less(t, back[agents/10], back[agents*9/10]-time.Second, "not all at once")
				}
			})
		})
	}
}

// learning is how long a server that has just started only listens.
const learning = time.Second
