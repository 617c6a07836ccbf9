package server_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
)

type setter func(float64)

func (s setter) SetFraction(f float64) { s(f) }

// A target may ask its agent, and a component may give the same map of metrics again.
func TestAComponentMayUseItsAgentAsItLikes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Learn: -1, Policy: backpressure.Step{}}})
		conn := p.dial()
		defer conn.Close()
		metrics := map[string]float64{}
		var a *agent.Agent
		var seen []float64
		a, err := agent.New(agent.Config{
			Conn: conn, Component: controlplane.Component{ID: "sink"},
			Report:  func() backpressure.Report { return backpressure.Report{InFlight: 90, MaxInFlight: 100} },
			Metrics: func() map[string]float64 { metrics["written"]++; return metrics },
			Targets: []backpressure.FractionSetter{setter(func(float64) {
				seen = append(seen, a.Fraction(), a.Stats().Fraction)
			})},
		})
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		time.Sleep(25 * time.Second)
		require.Equal(t, 3.0, p.server.Components()[0].Metrics["written"])
		stop()
		running.Wait()
		require.Equal(t, []float64{0.5, 0.5}, seen[:2])
	})
}
