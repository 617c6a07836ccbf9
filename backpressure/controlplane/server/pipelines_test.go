package server_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// in registers a stage of a pipeline: a source of ledgers, or a sink of them.
func (c *caller) in(pipeline, id string, kind flowctlv1pb.ComponentType) {
	info := &flowctlv1pb.ComponentInfo{Type: kind, Metadata: map[string]string{controlplane.PipelineKey: pipeline}}
	if kind == flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE {
		info.OutputEventTypes = []string{"ledgers"}
	} else {
		info.InputEventTypes = []string{"ledgers"}
	}
	_, err := c.v1.RegisterComponent(c.ctx, &flowctlv1pb.RegisterRequest{ComponentId: id, Component: info})
	require.NoError(c.t, err)
}

func (c *caller) load(id string, inFlight float64) {
	require.NoError(c.t, c.beat(id, map[string]float64{
		controlplane.MetricInFlight: inFlight, controlplane.MetricMaxInFlight: 100,
	}))
}

const (
	source = flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE
	sink   = flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER
)

// Pipelines of one kind have the same event types. A full sink of one of them moves no
// other, however many there are, and each has the whole of MaxInFlight.
func TestAFullSinkMovesNoOtherPipeline(t *testing.T) {
	for _, n := range []int{65, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := startPlane(t, server.Config{
					Decision: backpressure.Config{Policy: backpressure.Step{}, Learn: -1, MaxInFlight: 150},
					Limits:   server.Limits{ComponentsPerPeer: 2*n + 2},
				})
				c := newCaller(t, p)
				for i := range n {
					pipeline := fmt.Sprint("p", i)
					c.in(pipeline, pipeline+"-source", source)
					c.in(pipeline, pipeline+"-sink", sink)
					c.load(pipeline+"-source", 10)
					c.load(pipeline+"-sink", 10)
				}
				require.Len(t, p.server.Pipelines(), n+1)
				require.False(t, p.server.Overview().Active, "together they have more in flight than one may")

				c.load("p7-sink", 97)
				time.Sleep(time.Second)
				for i := range n {
					want := 1.0
					if i == 7 {
						want = 0.5
					}
					id := fmt.Sprint("p", i)
					require.Equal(t, want, p.server.Pipeline(id).FractionFor(id+"-source"), id)
				}
				require.Equal(t, 1.0, p.server.Controller().Fraction(), "of those without a pipeline")

				all := p.server.Snapshot()
				require.True(t, all.Active)
				require.Equal(t, 0.5, all.Fraction)
				require.Equal(t, "p7-sink", all.WorstService)
				require.Len(t, all.Services, 2*n)
				require.EqualValues(t, 20*n+87, all.InFlight)
				require.InDelta(t, float64(20*n+87)/float64(200*n), all.AggregateLoad, 1e-9)
				for _, node := range p.server.Topology().Nodes {
					if node.ID == "p7-source" || node.ID == "p7-sink" {
						require.Equal(t, 0.5, node.Fraction, node.ID)
					} else {
						require.Equal(t, 1.0, node.Fraction, node.ID)
					}
				}
			})
		})
	}
}

// An agent follows its own pipeline, also when it comes back under another id.
func TestAnAgentFollowsItsPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Policy: backpressure.Step{}}})
		start := func(pipeline, id string, kind topology.Kind) *part {
			return startPart(t, p, controlplane.Component{ID: id, PipelineID: pipeline, Kind: kind})
		}
		calm := start("a", "a-source", topology.KindSource)
		source, sink := start("b", "b-source", topology.KindSource), start("b", "b-sink", topology.KindSink)
		none := start("", "source", topology.KindSource)
		time.Sleep(3 * time.Second)
		require.Equal(t, []string{"", "a", "b"}, p.server.Pipelines())
		sink.inFlight.Store(95)
		time.Sleep(2 * time.Second)
		require.Equal(t, 0.5, source.fraction.get())
		require.Equal(t, 1.0, calm.fraction.get())
		require.Equal(t, 1.0, none.fraction.get())

		sink.stop()
		again := start("a", "b-sink", topology.KindSink)
		again.inFlight.Store(95)
		time.Sleep(3 * time.Second)
		require.Equal(t, 0.5, calm.fraction.get())
		require.Equal(t, 1.0, source.fraction.get())

		calm.stop()
		again.stop()
		require.Equal(t, []string{"", "b"}, p.server.Pipelines(), "a pipeline goes with its last component")
		source.stop()
		none.stop()
		require.Equal(t, []string{""}, p.server.Pipelines())
		require.Zero(t, p.server.Kept())
	})
}

// A component that registers anew in another pipeline has left the first.
func TestAComponentMayChangeItsPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Policy: backpressure.Step{}, Learn: -1}})
		c := newCaller(t, p)
		c.in("a", "source", source)
		c.in("a", "sink", sink)
		c.load("sink", 97)
		require.Equal(t, 0.5, p.server.Pipeline("a").FractionFor("source"))
		c.in("b", "sink", sink)
		require.Empty(t, p.server.Components()[0].Report.Upstreams, "its producer is in the other one")
		require.Len(t, p.server.Pipeline("a").Snapshot().Services, 1)
		require.Equal(t, 1.0, p.server.Pipeline("a").FractionFor("source"))
		require.Equal(t, 0.5, p.server.Pipeline("b").Fraction(), "its load has come along")
		require.NoError(t, c.unregister("sink"))
		require.Nil(t, p.server.Pipeline("b"))
		require.EqualValues(t, 2, p.server.Overview().Activations, "a counter does not fall with its pipeline")
		time.Sleep(2 * time.Minute)
		require.Equal(t, []string{""}, p.server.Pipelines(), "expiry ends one, too")
	})
}

// Settings are those of one pipeline, and survive a restart with a folder.
func TestEachPipelineHasItsSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := server.Config{Folder: t.TempDir(), AdminToken: "root"}
		p := startPlane(t, cfg)
		c := newCaller(t, p)
		about := func(pipeline string) context.Context {
			ctx := metadata.AppendToOutgoingContext(c.ctx, "authorization", "Bearer root")
			return metadata.AppendToOutgoingContext(ctx, controlplane.PipelineKey, pipeline)
		}
		activation := func(pipeline string) float64 {
			settings, err := c.own.GetSettings(about(pipeline), &sluicepb.GetSettingsRequest{})
			require.NoError(t, err)
			return settings.GetActivation()
		}
		c.in("a", "a-source", source)
		c.in("b", "b-source", source)
		c.load("a-source", 10)
		_, err := c.own.UpdateSettings(about("a"), &sluicepb.Settings{Activation: new(0.9)})
		require.NoError(t, err)
		_, err = c.own.UpdateSettings(about("never"), &sluicepb.Settings{Activation: new(0.9)})
		require.Equal(t, codes.NotFound, status.Code(err))
		for range 2 {
			require.Equal(t, []float64{0.9, 0.8, 0.8}, []float64{activation("a"), activation("b"), activation("")})
			state, err := c.own.GetState(about("a"), &sluicepb.GetStateRequest{})
			require.NoError(t, err)
			require.Len(t, state.GetLoads(), 1)
			p.stop()
			p.start(cfg)
			c = newCaller(t, p)
			require.Equal(t, 0.9, activation("a"))
			require.NoError(t, c.beat("a-source", nil))
			require.NoError(t, c.beat("b-source", nil))
		}
		require.NoError(t, c.unregister("a-source"))
		c.in("a", "a-source", source)
		require.Equal(t, 0.9, activation("a"), "also when its last component comes back")
	})
}

// Without a folder, too, a pipeline keeps its settings while it has no component, and
// one that has none leaves nothing behind.
func TestAPipelineThatIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{AdminToken: "root"})
		c := newCaller(t, p)
		c.in("kept", "source", source)
		ctx := metadata.AppendToOutgoingContext(c.ctx, "authorization", "Bearer root", controlplane.PipelineKey, "kept")
		_, err := c.own.UpdateSettings(ctx, &sluicepb.Settings{Activation: new(0.9)})
		require.NoError(t, err)
		require.NoError(t, c.unregister("source"))
		require.Equal(t, 0.9, p.server.Pipeline("kept").Config().Activation)

		before := runtime.NumGoroutine()
		for i := range 100 {
			c.in(fmt.Sprint("short", i), "source", source)
			require.NoError(t, c.unregister("source"))
		}
		time.Sleep(time.Second)
		require.Less(t, runtime.NumGoroutine(), before+50)
		require.Equal(t, []string{"", "kept"}, p.server.Pipelines())
	})
}
