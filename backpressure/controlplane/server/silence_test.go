package server

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
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
	if err := stream.Send(&sluicepb.Down{Message: &sluicepb.Down_Signal{Signal: &sluicepb.Signal{Fraction: 0.2, Active: true}}}); err != nil {
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
		p := startPlane(t, Config{})
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

func TestASecondAgentOfOneIDReplacesTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, Config{})
		first := startPart(t, p, controlplane.Component{ID: "sink"})
		time.Sleep(time.Second)
		startPart(t, p, controlplane.Component{ID: "sink"})
		time.Sleep(50 * time.Millisecond)
		require.Positive(t, first.Stats().Reconnects["replaced"])
		require.Len(t, p.server.Components(), 1)
		require.EqualValues(t, 100, p.server.Controller().Snapshot().ServiceLimits, "counted once")
	})
}
