package server_test

import (
	"os"
	"path/filepath"
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
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// Components that register once and then only beat, as those of the flowctl SDK
// do, are still there after a restart: registered, found, and counted.
func TestStockComponentsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := server.Config{Folder: t.TempDir(), Decision: backpressure.Config{Learn: -1}}
		p := startPlane(t, cfg)
		c := newCaller(t, p)
		_, err := c.v1.RegisterComponent(
			c.ctx,
			&flowctlv1pb.RegisterRequest{ComponentId: "source", Component: &flowctlv1pb.ComponentInfo{
				Type:             flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE,
				OutputEventTypes: []string{"ledgers"}, Endpoint: "10.0.0.1:8815",
				Metadata: map[string]string{"zone": "a", "max_inflight": "50"},
			}},
		)
		require.NoError(t, err)
		_, err = c.old.Register(c.ctx, &flowctlpb.ServiceInfo{
			ServiceId: "sink", ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_SINK,
			InputEventTypes: []string{"ledgers"}, MaxInflight: 100,
		})
		require.NoError(t, err)
		require.NoError(t, c.register("gone"))
		_, err = c.v1.UnregisterComponent(c.ctx, &flowctlv1pb.UnregisterRequest{ServiceId: "gone"})
		require.NoError(t, err)
		member := startPart(t, p, controlplane.Component{ID: "agent"})
		time.Sleep(2 * time.Second)
		before := p.server.Components()

		p.stop()
		member.stop()
		p.start(cfg)
		c = newCaller(t, p)
		require.NoError(t, c.beat("sink", map[string]float64{controlplane.MetricInFlight: 90}))
		require.NoError(t, c.beat("source", nil))
		require.Equal(t, codes.NotFound, status.Code(c.beat("gone", nil)))
		after := p.server.Components()
		require.Len(t, after, 2, "an agent registers by itself")
		for i, old := range before[1:] { // the first is the agent
			require.Equal(t, old.Component, after[i].Component)
		}
		require.Equal(t, topology.HealthHealthy, after[0].Health)
		require.EqualValues(t, 90, p.server.Controller().Snapshot().InFlight)
		require.EqualValues(t, 150, p.server.Controller().Snapshot().ServiceLimits, "what they registered with counts")
		found, err := c.v1.DiscoverComponents(
			c.ctx,
			&flowctlv1pb.DiscoveryRequest{
				EventTypes: []string{"ledgers"},
				Type:       flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE,
			},
		)
		require.NoError(t, err)
		require.Len(t, found.GetComponents(), 1)
		require.Less(t, p.server.Controller().FractionFor("source"), 1.0, "on one path with the sink")

		p.stop()
		p.start(cfg)
		time.Sleep(80 * time.Second)
		require.Empty(t, p.server.Components(), "one that does not come back expires")
		p.stop()
		p.start(cfg)
		require.Empty(t, p.server.Components(), "for good")
	})
}

func TestSettingsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := server.Config{
			Folder: t.TempDir(), AdminToken: "root", Decision: backpressure.Config{Activation: 0.7, Recovery: 0.5},
		}
		p := startPlane(t, cfg)
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer root")
		_, err := newCaller(t, p).own.UpdateSettings(ctx, &sluicepb.Settings{Activation: new(0.9), Policy: new("step")})
		require.NoError(t, err)
		p.stop()
		p.start(cfg)
		now := p.server.Controller().Config()
		require.Equal(t, 0.9, now.Activation)
		require.Equal(t, 0.5, now.Recovery, "not changed by the operator")
		require.Equal(t, backpressure.Step{}, now.Policy)
	})
}

func TestABadFolderIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := server.New(server.Config{Folder: filepath.Join(file, "below")})
	require.ErrorContains(t, err, "Folder")

	folder := t.TempDir()
	require.NoError(
		t,
		os.WriteFile(filepath.Join(folder, "sluice-controlplane.db"), []byte("not a database, but some longer text"), 0o600),
	)
	_, err = server.New(server.Config{Folder: folder})
	require.ErrorContains(t, err, "Folder")

	folder = t.TempDir()
	s, err := server.New(server.Config{Folder: folder})
	require.NoError(t, err)
	defer s.Close()
	_, err = server.New(server.Config{Folder: folder})
	require.ErrorContains(t, err, "Folder", "held by another server")
}
