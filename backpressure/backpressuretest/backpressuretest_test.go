package backpressuretest_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/backpressuretest"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/agent"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/topology"
)

func TestTheControllerConforms(t *testing.T) {
	for name, cfg := range map[string]backpressure.Config{
		"gradual":   {},
		"step":      {Policy: backpressure.Step{}},
		"aggregate": {Driver: backpressure.Aggregate},
	} {
		t.Run(name, func(t *testing.T) {
			backpressuretest.TestCoordinator(t, func(t *testing.T) backpressuretest.Coordinator {
				c, err := backpressure.New(cfg)
				require.NoError(t, err)
				t.Cleanup(c.Close)
				return c
			})
		})
	}
}

func TestControlPlaneInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := backpressuretest.NewControlPlane(t, server.Config{Decision: backpressure.Config{Policy: backpressure.Step{}}})
		var gate backpressuretest.Recorder
		var inFlight atomic.Int64
		member, stop := p.Run(agent.Config{
			Component: controlplane.Component{ID: "sink", Kind: topology.KindSink},
			Report:    func() backpressure.Report { return backpressure.Report{InFlight: inFlight.Load(), MaxInFlight: 100} },
			Targets:   []backpressure.FractionSetter{&gate},
		})
		time.Sleep(2 * time.Second)
		inFlight.Store(90)
		time.Sleep(200 * time.Millisecond)
		gate.ExpectExactly(t, 0.5)
		p.Stop()
		time.Sleep(time.Second)
		require.Equal(t, backpressure.Alone, member.Mode())
		p.Start()
		time.Sleep(5 * time.Second)
		require.Equal(t, backpressure.Coordinated, member.Mode())
		gate.ExpectExactly(t, 0.5)
		stop()
		require.Empty(t, p.Server().Components())
	})
}

// printer is a testing.TB that says what a failing expectation says.
type printer struct{ testing.TB }

func (printer) Helper()                        {}
func (printer) Errorf(format string, a ...any) { fmt.Printf(format+"\n", a...) }

func ExampleRecorder() {
	var gate backpressuretest.Recorder
	var coordinator backpressuretest.Scripted
	cancel := coordinator.Bind(&gate)
	coordinator.Play(0.5, 0.25, 1)
	cancel()
	coordinator.Play(0.1)

	t := printer{}
	gate.Expect(t, 0.5, 1)
	gate.ExpectExactly(t, 1, 0.5, 1)
	// Output:
	// backpressuretest: set to [1 0.5 0.25 1], want exactly [1 0.5 1]
}
