package server

import (
	"context"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/topology"
)

// heartbeat takes a heartbeat of one of the stock services. An unknown id is
// NOT_FOUND: stock components that know what that means register again, and those
// that do not are remembered by the store. Taking it provisionally instead would
// leave the former without their endpoint and event types for ever.
func (s *Server) heartbeat(ctx context.Context, b *beat) error {
	if err := s.mayFor(ctx, b.id); err != nil {
		return s.count(err)
	}
	return s.take(b)
}

// flowctlService is the older flowctl service over the server's registry. Both
// services see all components, whichever way each registered.
type flowctlService struct{ s *Server }

// Undecoded implements wire.Undecoded.
func (f flowctlService) Undecoded(err error) { f.s.undecoded(err) }

func (f flowctlService) Register(ctx context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	c := convert.ComponentFromFlowctl(in)
	if err := f.s.register(ctx, c, 0); err != nil {
		return nil, err
	}
	return &flowctlpb.RegistrationAck{ServiceId: c.ID, TopicNames: c.OutputEventTypes}, nil
}

func (f flowctlService) Heartbeat(ctx context.Context, in *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	if err := f.s.heartbeat(ctx, &beat{id: in.GetServiceId(), metrics: in.GetMetrics()}); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (f flowctlService) GetServiceStatus(
	_ context.Context, in *flowctlpb.ServiceInfo,
) (*flowctlpb.ServiceStatus, error) {
	status, ok := f.s.registry.get(in.GetServiceId())
	if !ok {
		return nil, f.s.count(notRegistered(in.GetServiceId()))
	}
	return statusToFlowctl(&status), nil
}

func (f flowctlService) ListServices(context.Context, *emptypb.Empty) (*flowctlpb.ServiceList, error) {
	list := &flowctlpb.ServiceList{}
	for _, status := range f.s.registry.statuses(nil) {
		list.Services = append(list.Services, statusToFlowctl(&status))
	}
	return list, nil
}

// statusToFlowctl is status for the older service, which knows no more than whether a
// component is healthy.
func statusToFlowctl(status *controlplane.Status) *flowctlpb.ServiceStatus {
	return &flowctlpb.ServiceStatus{
		ServiceId:     status.ID,
		ServiceType:   convert.KindToFlowctl(status.Kind),
		IsHealthy:     status.Healthy(),
		LastHeartbeat: timestamppb.New(status.LastHeartbeat),
		Metrics:       status.Metrics,
		ComponentId:   status.Name,
	}
}

// flowctlV1Service is the newer flowctl service over the server's registry. Reading
// needs no identity: tools have none, and a component's status is no secret among
// those that may connect.
type flowctlV1Service struct{ s *Server }

// Undecoded implements wire.Undecoded.
func (f flowctlV1Service) Undecoded(err error) { f.s.undecoded(err) }

func (f flowctlV1Service) RegisterComponent(
	ctx context.Context, in *flowctlv1pb.RegisterRequest,
) (*flowctlv1pb.RegisterResponse, error) {
	c, heartbeat := convert.ComponentFromV1(in.GetComponent())
	if id := in.GetComponentId(); id != "" {
		c.ID = id
	}
	if err := f.s.register(ctx, c, heartbeat); err != nil {
		return nil, err
	}
	return &flowctlv1pb.RegisterResponse{ServiceId: c.ID, AssignedTopics: c.OutputEventTypes}, nil
}

func (f flowctlV1Service) UnregisterComponent(
	ctx context.Context, in *flowctlv1pb.UnregisterRequest,
) (*emptypb.Empty, error) {
	if err := f.s.unregister(ctx, in.GetServiceId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// DiscoverComponents leaves out stale components only: whether to call one that says
// that it is degraded is the caller's choice.
func (f flowctlV1Service) DiscoverComponents(
	_ context.Context, in *flowctlv1pb.DiscoveryRequest,
) (*flowctlv1pb.DiscoveryResponse, error) {
	filter := controlplane.Filter{
		Kind:       convert.KindFromV1(in.GetType()),
		EventTypes: in.GetEventTypes(),
		Metadata:   in.GetMetadataFilters(),
	}
	response := &flowctlv1pb.DiscoveryResponse{}
	for _, status := range f.s.registry.statuses(func(s *controlplane.Status) bool {
		return !s.Stale && filter.Matches(&s.Component)
	}) {
		response.Components = append(response.Components, convert.ComponentToV1(&status.Component, 0))
	}
	return response, nil
}

// Heartbeat merges the metrics into those that are known, as deployed servers do:
// a component may send only those that changed. Status 0 keeps the last one.
func (f flowctlV1Service) Heartbeat(ctx context.Context, in *flowctlv1pb.HeartbeatRequest) (*emptypb.Empty, error) {
	if n, most := len(in.GetMetrics()), f.s.cfg.Limits.Metrics; n > most { // before they are parsed
		return nil, f.s.count(reject(TooMany, "%d metrics, at most %d are kept of a component", n, most))
	}
	if err := f.s.heartbeat(ctx, &beat{
		id: in.GetServiceId(), health: convert.HealthFromV1(in.GetStatus()), metrics: convert.ParseMetrics(in.GetMetrics()),
	}); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (f flowctlV1Service) GetComponentStatus(
	_ context.Context, in *flowctlv1pb.ComponentStatusRequest,
) (*flowctlv1pb.ComponentStatusResponse, error) {
	status, ok := f.s.registry.get(in.GetServiceId())
	if !ok {
		return nil, f.s.count(notRegistered(in.GetServiceId()))
	}
	return statusToV1(&status), nil
}

func (f flowctlV1Service) ListComponents(
	_ context.Context, in *flowctlv1pb.ListComponentsRequest,
) (*flowctlv1pb.ListComponentsResponse, error) {
	kind := convert.KindFromV1(in.GetTypeFilter())
	response := &flowctlv1pb.ListComponentsResponse{}
	for _, status := range f.s.registry.statuses(func(s *controlplane.Status) bool {
		return (kind == topology.KindUnknown || s.Kind == kind) && (in.GetIncludeUnhealthy() || s.Healthy())
	}) {
		response.Components = append(response.Components, statusToV1(&status))
	}
	return response, nil
}

// statusToV1 shows a component whose heartbeats stopped as unhealthy, as deployed
// servers do, whatever it last said of itself.
func statusToV1(status *controlplane.Status) *flowctlv1pb.ComponentStatusResponse {
	health := status.Health
	if status.Stale {
		health = topology.HealthDown
	}
	return &flowctlv1pb.ComponentStatusResponse{
		Component:     convert.ComponentToV1(&status.Component, 0),
		Status:        convert.HealthToV1(health),
		LastHeartbeat: timestamppb.New(status.LastHeartbeat),
		Metrics:       convert.FormatMetrics(status.Metrics),
		RegisteredAt:  timestamppb.New(status.Registered),
	}
}
