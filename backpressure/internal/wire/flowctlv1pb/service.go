// Package flowctlv1pb is the newer flowctl service, flowctl.v1.ControlPlaneService.
package flowctlv1pb

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure/internal/wire"
)

// ServiceName is the service's name on the wire.
const ServiceName = "flowctl.v1.ControlPlaneService"

// Server is what a control plane implements. Deployed services have further
// methods, for records of pipeline runs; a caller of those gets UNIMPLEMENTED.
type Server interface {
	RegisterComponent(context.Context, *RegisterRequest) (*RegisterResponse, error)
	UnregisterComponent(context.Context, *UnregisterRequest) (*emptypb.Empty, error)
	DiscoverComponents(context.Context, *DiscoveryRequest) (*DiscoveryResponse, error)
	Heartbeat(context.Context, *HeartbeatRequest) (*emptypb.Empty, error)
	GetComponentStatus(context.Context, *ComponentStatusRequest) (*ComponentStatusResponse, error)
	ListComponents(context.Context, *ListComponentsRequest) (*ListComponentsResponse, error)
}

// RegisterServer makes registrar serve the service by server.
func RegisterServer(registrar grpc.ServiceRegistrar, server Server) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: ServiceName,
		HandlerType: (*Server)(nil),
		Methods: []grpc.MethodDesc{
			wire.Unary(ServiceName, "RegisterComponent", Server.RegisterComponent),
			wire.Unary(ServiceName, "UnregisterComponent", Server.UnregisterComponent),
			wire.Unary(ServiceName, "DiscoverComponents", Server.DiscoverComponents),
			wire.Unary(ServiceName, "Heartbeat", Server.Heartbeat),
			wire.Unary(ServiceName, "GetComponentStatus", Server.GetComponentStatus),
			wire.Unary(ServiceName, "ListComponents", Server.ListComponents),
		},
		Metadata: "backpressure/internal/wire/flowctlv1pb/flowctl.proto",
	}, server)
}

// Client calls the service over Conn.
type Client struct{ Conn grpc.ClientConnInterface }

// RegisterComponent announces a component.
func (c Client) RegisterComponent(
	ctx context.Context, in *RegisterRequest, opts ...grpc.CallOption,
) (*RegisterResponse, error) {
	return wire.Invoke[RegisterResponse](ctx, c.Conn, ServiceName, "RegisterComponent", in, opts...)
}

// UnregisterComponent says that a component leaves.
func (c Client) UnregisterComponent(
	ctx context.Context, in *UnregisterRequest, opts ...grpc.CallOption,
) (*emptypb.Empty, error) {
	return wire.Invoke[emptypb.Empty](ctx, c.Conn, ServiceName, "UnregisterComponent", in, opts...)
}

// DiscoverComponents finds components by type, event types and metadata.
func (c Client) DiscoverComponents(
	ctx context.Context, in *DiscoveryRequest, opts ...grpc.CallOption,
) (*DiscoveryResponse, error) {
	return wire.Invoke[DiscoveryResponse](ctx, c.Conn, ServiceName, "DiscoverComponents", in, opts...)
}

// Heartbeat renews a registration and carries the component's metrics.
func (c Client) Heartbeat(ctx context.Context, in *HeartbeatRequest, opts ...grpc.CallOption) (*emptypb.Empty, error) {
	return wire.Invoke[emptypb.Empty](ctx, c.Conn, ServiceName, "Heartbeat", in, opts...)
}

// GetComponentStatus returns what is known of one component.
func (c Client) GetComponentStatus(
	ctx context.Context, in *ComponentStatusRequest, opts ...grpc.CallOption,
) (*ComponentStatusResponse, error) {
	return wire.Invoke[ComponentStatusResponse](ctx, c.Conn, ServiceName, "GetComponentStatus", in, opts...)
}

// ListComponents returns the registered components.
func (c Client) ListComponents(
	ctx context.Context, in *ListComponentsRequest, opts ...grpc.CallOption,
) (*ListComponentsResponse, error) {
	return wire.Invoke[ListComponentsResponse](ctx, c.Conn, ServiceName, "ListComponents", in, opts...)
}
