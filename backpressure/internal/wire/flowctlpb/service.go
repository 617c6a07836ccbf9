// Package flowctlpb is the older flowctl service, flowctl.ControlPlane.
package flowctlpb

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/withobsrvr/sluice/backpressure/internal/wire"
)

// ServiceName is the service's name on the wire.
const ServiceName = "flowctl.ControlPlane"

// Server is what a control plane implements. Deployed services have further
// methods, for records of pipeline runs; a caller of those gets UNIMPLEMENTED.
type Server interface {
	Register(context.Context, *ServiceInfo) (*RegistrationAck, error)
	Heartbeat(context.Context, *ServiceHeartbeat) (*emptypb.Empty, error)
	GetServiceStatus(context.Context, *ServiceInfo) (*ServiceStatus, error)
	ListServices(context.Context, *emptypb.Empty) (*ServiceList, error)
}

// RegisterServer makes registrar serve the service by server.
func RegisterServer(registrar grpc.ServiceRegistrar, server Server) {
	registrar.RegisterService(&grpc.ServiceDesc{
		ServiceName: ServiceName,
		HandlerType: (*Server)(nil),
		Methods: []grpc.MethodDesc{
			wire.Unary(ServiceName, "Register", Server.Register),
			wire.Unary(ServiceName, "Heartbeat", Server.Heartbeat),
			wire.Unary(ServiceName, "GetServiceStatus", Server.GetServiceStatus),
			wire.Unary(ServiceName, "ListServices", Server.ListServices),
		},
		Metadata: "backpressure/internal/wire/flowctlpb/flowctl.proto",
	}, server)
}

// Client calls the service over Conn.
type Client struct{ Conn grpc.ClientConnInterface }

// Register announces a service.
func (c Client) Register(ctx context.Context, in *ServiceInfo, opts ...grpc.CallOption) (*RegistrationAck, error) {
	return wire.Invoke[RegistrationAck](ctx, c.Conn, ServiceName, "Register", in, opts...)
}

// Heartbeat renews a registration and carries the service's metrics.
func (c Client) Heartbeat(ctx context.Context, in *ServiceHeartbeat, opts ...grpc.CallOption) (*emptypb.Empty, error) {
	return wire.Invoke[emptypb.Empty](ctx, c.Conn, ServiceName, "Heartbeat", in, opts...)
}

// GetServiceStatus returns what is known of one service.
func (c Client) GetServiceStatus(
	ctx context.Context, in *ServiceInfo, opts ...grpc.CallOption,
) (*ServiceStatus, error) {
	return wire.Invoke[ServiceStatus](ctx, c.Conn, ServiceName, "GetServiceStatus", in, opts...)
}

// ListServices returns every registered service.
func (c Client) ListServices(ctx context.Context, opts ...grpc.CallOption) (*ServiceList, error) {
	return wire.Invoke[ServiceList](ctx, c.Conn, ServiceName, "ListServices", &emptypb.Empty{}, opts...)
}
