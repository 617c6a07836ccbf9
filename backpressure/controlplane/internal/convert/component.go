package convert

import (
	"context"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/topology"
)

// Metadata keys under which facts travel for which the flowctl services have no
// field. Stock tools show them as they are.
const (
	metaUpstreams      = "sluice.upstreams"
	metaHealthEndpoint = "health_endpoint"
	metaMaxInFlight    = "max_inflight"
	metaHeartbeat      = "sluice.heartbeat_interval"
)

// IncarnationKey is the gRPC metadata key under which an agent's registrations
// and unregistrations say which process makes them. Stock servers ignore it.
const IncarnationKey = "sluice-incarnation"

// WithIncarnation returns a context whose calls say the incarnation.
func WithIncarnation(ctx context.Context, incarnation uint64) context.Context {
	return metadata.AppendToOutgoingContext(ctx, IncarnationKey, strconv.FormatUint(incarnation, 10))
}

// Incarnation is the one that the call being served says, 0 if it says none.
func Incarnation(ctx context.Context) uint64 {
	values := metadata.ValueFromIncomingContext(ctx, IncarnationKey)
	if len(values) != 1 {
		return 0
	}
	n, err := strconv.ParseUint(values[0], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// ComponentToV1 is c in flowctl.v1. A heartbeat interval of 0 is left out.
func ComponentToV1(c *controlplane.Component, heartbeat time.Duration) *flowctlv1pb.ComponentInfo {
	metadata := maps.Clone(c.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	put := func(key, value string) {
		if value != "" {
			metadata[key] = value
		}
	}
	if c.Upstreams != nil { // an empty list is a fact, too: nothing feeds the component
		metadata[metaUpstreams] = strings.Join(c.Upstreams, ",")
	}
	put(metaHealthEndpoint, c.HealthEndpoint)
	put(controlplane.PipelineKey, c.PipelineID)
	if c.MaxInFlight > 0 {
		put(metaMaxInFlight, strconv.FormatInt(c.MaxInFlight, 10))
	}
	if heartbeat > 0 {
		put(metaHeartbeat, heartbeat.String())
	}
	return &flowctlv1pb.ComponentInfo{
		Id:               c.ID,
		Name:             c.Name,
		Description:      c.Description,
		Version:          c.Version,
		Type:             KindToV1(c.Kind),
		InputEventTypes:  c.InputEventTypes,
		OutputEventTypes: c.OutputEventTypes,
		Endpoint:         c.Endpoint,
		Metadata:         metadata,
	}
}

// ComponentFromV1 also returns the heartbeat interval that the component
// announced, 0 if it announced none.
func ComponentFromV1(in *flowctlv1pb.ComponentInfo) (controlplane.Component, time.Duration) {
	metadata := maps.Clone(in.GetMetadata())
	take := func(key string) string {
		value := metadata[key]
		delete(metadata, key)
		return value
	}
	c := controlplane.Component{
		ID:               in.GetId(),
		Name:             in.GetName(),
		Description:      in.GetDescription(),
		Version:          in.GetVersion(),
		Kind:             KindFromV1(in.GetType()),
		Endpoint:         in.GetEndpoint(),
		InputEventTypes:  in.GetInputEventTypes(),
		OutputEventTypes: in.GetOutputEventTypes(),
	}
	if _, said := metadata[metaUpstreams]; said {
		c.Upstreams = strings.FieldsFunc(take(metaUpstreams), func(r rune) bool { return r == ',' })
	}
	c.PipelineID = metadata[controlplane.PipelineKey] // stays, for the graph and for filters by metadata
	c.HealthEndpoint = take(metaHealthEndpoint)
	if n, err := strconv.ParseInt(take(metaMaxInFlight), 10, 64); err == nil && n > 0 {
		c.MaxInFlight = n
	}
	heartbeat, err := time.ParseDuration(take(metaHeartbeat))
	if err != nil || heartbeat < 0 {
		heartbeat = 0
	}
	if len(metadata) > 0 { // most have none beyond ours, and an empty map costs 48 bytes
		c.Metadata = metadata
	}
	return c, heartbeat
}

// ComponentToFlowctl is c in the older service, where a limit beyond 32 bits is
// the largest that fits.
func ComponentToFlowctl(c *controlplane.Component, heartbeat time.Duration) *flowctlpb.ServiceInfo {
	return &flowctlpb.ServiceInfo{
		ServiceId:        c.ID,
		ServiceType:      KindToFlowctl(c.Kind),
		InputEventTypes:  c.InputEventTypes,
		OutputEventTypes: c.OutputEventTypes,
		HealthEndpoint:   c.HealthEndpoint,
		MaxInflight:      int32(min(c.MaxInFlight, math.MaxInt32)),
		Metadata:         ComponentToV1(c, heartbeat).GetMetadata(),
		ComponentId:      c.ID,
	}
}

// ComponentFromFlowctl is a registration with the older service.
func ComponentFromFlowctl(in *flowctlpb.ServiceInfo) controlplane.Component {
	return controlplane.Component{
		ID:               in.GetServiceId(),
		Name:             in.GetComponentId(),
		Kind:             KindFromFlowctl(in.GetServiceType()),
		HealthEndpoint:   in.GetHealthEndpoint(),
		InputEventTypes:  in.GetInputEventTypes(),
		OutputEventTypes: in.GetOutputEventTypes(),
		MaxInFlight:      int64(max(in.GetMaxInflight(), 0)),
		Endpoint:         in.GetMetadata()["endpoint"],
		PipelineID:       in.GetMetadata()[controlplane.PipelineKey],
		Metadata:         maps.Clone(in.GetMetadata()),
	}
}

// StatusFromV1 is what a control plane says of a component through flowctl.v1.
func StatusFromV1(in *flowctlv1pb.ComponentStatusResponse) controlplane.Status {
	component, _ := ComponentFromV1(in.GetComponent())
	metrics := ParseMetrics(in.GetMetrics())
	status := controlplane.Status{
		Component:     component,
		Health:        HealthFromV1(in.GetStatus()),
		Registered:    Time(in.GetRegisteredAt()),
		LastHeartbeat: Time(in.GetLastHeartbeat()),
		Metrics:       metrics,
		Report:        ReportFromMetrics(component.ID, component.MaxInFlight, metrics),
	}
	status.Report.Kind, status.Report.Upstreams = component.Kind, component.Upstreams
	return status
}

// StatusFromFlowctl is what a control plane says of a component through the
// older service.
func StatusFromFlowctl(in *flowctlpb.ServiceStatus) controlplane.Status {
	status := controlplane.Status{
		Component: controlplane.Component{
			ID: in.GetServiceId(), Name: in.GetComponentId(), Kind: KindFromFlowctl(in.GetServiceType()),
		},
		Health:        topology.HealthUnhealthy,
		LastHeartbeat: Time(in.GetLastHeartbeat()),
		Metrics:       in.GetMetrics(),
		Report:        ReportFromMetrics(in.GetServiceId(), 0, in.GetMetrics()),
	}
	if in.GetIsHealthy() {
		status.Health = topology.HealthHealthy
	}
	status.Report.Kind = status.Kind
	return status
}
