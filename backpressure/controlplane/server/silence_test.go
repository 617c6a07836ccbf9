package server_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// mute is a control plane that speaks once and never again, as one behind a
// connection that died without a trace.
type mute struct {
	sluicepb.UnimplementedCoordinationServer
}

func (mute) Coordinate(stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down]) error {
	if err := stream.Send(&sluicepb.Down{Message: &sluicepb.Down_Welcome{Welcome: &sluicepb.Welcome{}}}); err != nil {
		return err
	}
	signal := &sluicepb.Signal{Fraction: 0.2, Active: true}
	if err := stream.Send(&sluicepb.Down{Message: &sluicepb.Down_Signal{Signal: signal}}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func TestASilentControlPlaneIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := startStock(t, &newerStock, withServer(&sluicepb.Coordination_ServiceDesc))
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		time.Sleep(5 * time.Second)
		require.Equal(t, backpressure.Coordinated, source.Mode())
		require.Equal(t, 0.2, source.fraction.get())
		time.Sleep(30 * time.Second)
		require.Positive(t, source.Stats().Reconnects["unreachable"], "three heartbeats of silence end the stream")
	})
}

// withServer makes a generated descriptor serve a mute, whatever it is
// registered with.
func withServer(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	silent := *desc
	silent.HandlerType = (*any)(nil)
	silent.Methods = nil
	silent.Streams = []grpc.StreamDesc{{
		StreamName: "Coordinate", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			return desc.Streams[0].Handler(mute{}, stream)
		},
	}}
	return &silent
}

// TestAQuietStreamStaysOpen: nothing happens for ten minutes, and nobody takes the
// other for lost.
func TestAQuietStreamStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		time.Sleep(10 * time.Minute)
		require.Equal(t, backpressure.Coordinated, source.Mode())
		for reason, n := range source.Stats().Reconnects {
			require.Zero(t, n, reason)
		}
		require.Less(t, source.Stats().SignalAge, 15*time.Second)
		require.Len(t, p.server.Controller().Snapshot().Services, 1)
	})
}

// Two processes under one id, as in a rolling update: the later one counts, the
// earlier one stops, and its end does not unregister the later one.
func TestASecondAgentOfOneIDReplacesTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		first := startPart(t, p, controlplane.Component{ID: "sink"})
		time.Sleep(time.Second)
		second := startPart(t, p, controlplane.Component{ID: "sink"})
		second.inFlight.Store(10)
		time.Sleep(25 * time.Second)
		require.EqualValues(t, 1, first.Stats().Reconnects["replaced"])
		require.Equal(t, backpressure.Alone, first.Mode())
		require.Len(t, p.server.Components(), 1)
		require.EqualValues(t, 10, p.server.Controller().Snapshot().InFlight, "the second's report")
		require.EqualValues(t, 100, p.server.Controller().Snapshot().ServiceLimits, "counted once")

		first.stop()
		time.Sleep(time.Second)
		require.Len(t, p.server.Components(), 1, "the first does not take the second along")
		require.Equal(t, backpressure.Coordinated, second.Mode())
		require.Zero(t, total(second.Stats().Reconnects))
		second.stop()
		time.Sleep(time.Second)
		require.Empty(t, p.server.Components())
	})
}

// An earlier process that was cut off while it was replaced learns of it when it
// comes back.
func TestAReplacedAgentThatComesBackStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		register := func(incarnation string) error {
			ctx := metadata.AppendToOutgoingContext(c.ctx, convert.IncarnationKey, incarnation)
			_, err := c.v1.RegisterComponent(
				ctx, &flowctlv1pb.RegisterRequest{ComponentId: "sink", Component: &flowctlv1pb.ComponentInfo{}},
			)
			return err
		}
		unregister := func(incarnation string) error {
			ctx := metadata.AppendToOutgoingContext(c.ctx, convert.IncarnationKey, incarnation)
			_, err := c.v1.UnregisterComponent(ctx, &flowctlv1pb.UnregisterRequest{ServiceId: "sink"})
			return err
		}
		require.NoError(t, register("1"))
		require.NoError(t, register("1"), "a reconnection")
		require.NoError(t, register("2"))
		require.Equal(t, codes.Aborted, status.Code(register("1")))
		require.Equal(t, codes.Aborted, status.Code(unregister("1")))
		require.NoError(t, register("3"))
		require.Equal(t, codes.Aborted, status.Code(register("1")))
		require.Equal(t, codes.Aborted, status.Code(register("2")))
		require.Equal(t, codes.Aborted, status.Code(c.join("sink", 2)))
		require.NoError(t, c.register("sink"), "a component that has no incarnation is a new one")
		require.Equal(t, codes.Aborted, status.Code(register("3")))
		require.NoError(t, unregister("nonsense"), "as without one")
	})
}
