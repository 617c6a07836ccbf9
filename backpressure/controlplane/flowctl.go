package controlplane

import (
	"context"
	"maps"

	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
)

// flowctlService is the older flowctl service over the server's registry.
type flowctlService struct{ s *Server }

// Undecoded implements wire.Undecoded.
func (f flowctlService) Undecoded(err error) { f.s.undecoded(err) }

func (f flowctlService) Register(ctx context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.RegistrationAck, error) {
	c := fromFlowctl(in)
	if err := f.s.register(ctx, c, 0); err != nil {
		return nil, err
	}
	return &flowctlpb.RegistrationAck{ServiceId: c.ID, TopicNames: c.OutputEventTypes}, nil
}

func (f flowctlService) Heartbeat(ctx context.Context, in *flowctlpb.ServiceHeartbeat) (*emptypb.Empty, error) {
	if err := f.s.beat(ctx, in.GetServiceId(), HealthUnknown, in.GetMetrics(), reportFromMetrics); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (f flowctlService) GetServiceStatus(_ context.Context, in *flowctlpb.ServiceInfo) (*flowctlpb.ServiceStatus, error) {
	status, ok := f.s.registry.get(in.GetServiceId())
	if !ok {
		return nil, f.s.refuse(notRegistered(in.GetServiceId()))
	}
	return statusToFlowctl(status), nil
}

func (f flowctlService) ListServices(context.Context, *emptypb.Empty) (*flowctlpb.ServiceList, error) {
	list := &flowctlpb.ServiceList{}
	for _, status := range f.s.registry.statuses(nil) {
		list.Services = append(list.Services, statusToFlowctl(status))
	}
	return list, nil
}

func statusToFlowctl(status Status) *flowctlpb.ServiceStatus {
	return &flowctlpb.ServiceStatus{
		ServiceId:     status.ID,
		ServiceType:   roleToFlowctl(status.Role),
		IsHealthy:     status.healthy(),
		LastHeartbeat: timestamppb.New(status.LastHeartbeat),
		Metrics:       status.Metrics,
		ComponentId:   status.Name,
	}
}

// flowctlV1Service is the newer flowctl service over the server's registry.
type flowctlV1Service struct{ s *Server }

// Undecoded implements wire.Undecoded.
func (f flowctlV1Service) Undecoded(err error) { f.s.undecoded(err) }

func (f flowctlV1Service) RegisterComponent(ctx context.Context, in *flowctlv1pb.RegisterRequest) (*flowctlv1pb.RegisterResponse, error) {
	c, heartbeat := fromV1(in.GetComponent())
	if id := in.GetComponentId(); id != "" {
		c.ID = id
	}
	if err := f.s.register(ctx, c, heartbeat); err != nil {
		return nil, err
	}
	return &flowctlv1pb.RegisterResponse{ServiceId: c.ID, AssignedTopics: c.OutputEventTypes}, nil
}

func (f flowctlV1Service) UnregisterComponent(ctx context.Context, in *flowctlv1pb.UnregisterRequest) (*emptypb.Empty, error) {
	if err := f.s.unregister(ctx, in.GetServiceId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (f flowctlV1Service) DiscoverComponents(_ context.Context, in *flowctlv1pb.DiscoveryRequest) (*flowctlv1pb.DiscoveryResponse, error) {
	filter := Filter{
		Role:       roleFromV1(in.GetType()),
		EventTypes: in.GetEventTypes(),
		Metadata:   in.GetMetadataFilters(),
	}
	response := &flowctlv1pb.DiscoveryResponse{}
	for _, status := range f.s.registry.statuses(func(s *Status) bool { return !s.Stale && filter.matches(&s.Component) }) {
		response.Components = append(response.Components, status.toV1(0))
	}
	return response, nil
}

func (f flowctlV1Service) Heartbeat(ctx context.Context, in *flowctlv1pb.HeartbeatRequest) (*emptypb.Empty, error) {
	if n := len(in.GetMetrics()); n > f.s.cfg.Limits.Metrics {
		return nil, f.s.refuse(refuse(TooMany, "%d metrics, at most %d are kept of a component", n, f.s.cfg.Limits.Metrics))
	}
	metrics := parseMetrics(in.GetMetrics())
	if err := f.s.beat(ctx, in.GetServiceId(), healthFromV1(in.GetStatus()), metrics, reportFromMetrics); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (f flowctlV1Service) GetComponentStatus(_ context.Context, in *flowctlv1pb.ComponentStatusRequest) (*flowctlv1pb.ComponentStatusResponse, error) {
	status, ok := f.s.registry.get(in.GetServiceId())
	if !ok {
		return nil, f.s.refuse(notRegistered(in.GetServiceId()))
	}
	return statusToV1(status), nil
}

func (f flowctlV1Service) ListComponents(_ context.Context, in *flowctlv1pb.ListComponentsRequest) (*flowctlv1pb.ListComponentsResponse, error) {
	role := roleFromV1(in.GetTypeFilter())
	response := &flowctlv1pb.ListComponentsResponse{}
	for _, status := range f.s.registry.statuses(func(s *Status) bool {
		return (role == backpressure.RoleUnknown || s.Role == role) && (in.GetIncludeUnhealthy() || s.healthy())
	}) {
		response.Components = append(response.Components, statusToV1(status))
	}
	return response, nil
}

func statusToV1(status Status) *flowctlv1pb.ComponentStatusResponse {
	health := status.Health
	if status.Stale {
		health = HealthUnhealthy
	}
	metrics := make(map[string]string, len(status.Metrics))
	for key, v := range maps.All(status.Metrics) {
		metrics[key] = formatMetric(v)
	}
	return &flowctlv1pb.ComponentStatusResponse{
		Component:     status.toV1(0),
		Status:        flowctlv1pb.HealthStatus(health),
		LastHeartbeat: timestamppb.New(status.LastHeartbeat),
		Metrics:       metrics,
		RegisteredAt:  timestamppb.New(status.Registered),
	}
}

// healthFromV1 takes a number that the enum does not know for unknown.
func healthFromV1(h flowctlv1pb.HealthStatus) Health {
	if h < 0 || h > flowctlv1pb.HealthStatus(HealthStopping) {
		return HealthUnknown
	}
	return Health(h)
}

// healthy says whether a caller may be sent there: a component that says
// nothing of its health is taken at its heartbeats.
func (s *Status) healthy() bool {
	return !s.Stale && !s.Lost && s.Health != HealthUnhealthy && s.Health != HealthStopping
}

func reportFromMetrics(e *entry) backpressure.Report {
	return reportOf(e.ID, e.MaxInFlight, e.metrics.value)
}

func notRegistered(id string) *Error {
	return refuse(NotRegistered, "component %q is not registered", id[:min(len(id), 64)])
}
