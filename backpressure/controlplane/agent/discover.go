package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// Discover is [Discover] on the agent's connection, and takes its time for Stats. It
// works in every mode, and before Run; it fails at once while the connection is broken.
func (a *Agent) Discover(ctx context.Context, filter controlplane.Filter) ([]controlplane.Component, error) {
	began := time.Now()
	found, err := Discover(ctx, a.conn, filter)
	a.discovery.Store(int64(time.Since(began)))
	return found, err
}

// Discover asks the control plane behind conn for the components that match
// filter, without the stale ones. Its order is that of the ids. What comes back is
// what components said of themselves: endpoints are untrusted input. The error is the
// gRPC status of the call, which ctx bounds.
func Discover(
	ctx context.Context, conn grpc.ClientConnInterface, filter controlplane.Filter,
) ([]controlplane.Component, error) {
	wanted := filter.Metadata
	if filter.PipelineID != "" {
		wanted = map[string]string{controlplane.PipelineKey: filter.PipelineID}
		maps.Copy(wanted, filter.Metadata)
	}
	response, err := flowctlv1pb.Client{Conn: conn}.DiscoverComponents(ctx, &flowctlv1pb.DiscoveryRequest{
		Type:            convert.KindToV1(filter.Kind),
		EventTypes:      filter.EventTypes,
		MetadataFilters: wanted,
	})
	if err != nil {
		return nil, err
	}
	components := make([]controlplane.Component, 0, len(response.GetComponents()))
	for _, info := range response.GetComponents() {
		component, _ := convert.ComponentFromV1(info)
		components = append(components, component)
	}
	return components, nil
}

// Components asks the control plane behind conn for all components, unhealthy
// ones too, in its order: any control plane that speaks one of the two flowctl
// services. Of the older one only kinds, health and metrics are known.
func Components(ctx context.Context, conn grpc.ClientConnInterface) ([]controlplane.Status, error) {
	all, err := newerService(conn).list(ctx)
	if status.Code(err) == codes.Unimplemented {
		return olderService(conn).list(ctx)
	}
	return all, err
}

// Topology asks the control plane behind conn for the pipeline's graph. One that
// has only the flowctl services answers UNIMPLEMENTED; see [Components].
func Topology(ctx context.Context, conn grpc.ClientConnInterface) (*topology.Graph, error) {
	response, err := sluicepb.NewCoordinationClient(conn).GetTopology(ctx, &sluicepb.GetTopologyRequest{})
	if err != nil {
		return nil, err
	}
	graph := &topology.Graph{}
	if err := json.Unmarshal(response.GetJson(), graph); err != nil {
		return nil, fmt.Errorf("agent: the control plane's topology does not decode: %w", err)
	}
	if graph.Schema > topology.Schema {
		return nil, fmt.Errorf("agent: the control plane's topology has schema %d, this program reads up to %d: update it",
			graph.Schema, topology.Schema)
	}
	return graph, nil
}
