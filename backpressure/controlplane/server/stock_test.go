package server_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/topology"
)

// stock is a control plane as deployed: the newer service, the older one, or
// both, no stream, and errors as deployed servers word them. Its descriptors
// are written out here, so that the test does not lean on what it tests.
type stock struct {
	mu       sync.Mutex
	services map[string]*flowctlv1pb.ComponentStatusResponse
	assigned string // if set, the id that a registration gets
}

func method[In any, Req interface {
	*In
	proto.Message
}](name string, handle func(*stock, Req) (any, error)) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(srv any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := Req(new(In))
			if err := decode(in); err != nil {
				return nil, err
			}
			s := srv.(*stock)
			s.mu.Lock()
			defer s.mu.Unlock()
			return handle(s, in)
		},
	}
}

var errForgotten = errors.New("service ID not found") // code UNKNOWN on the wire

var newerStock = grpc.ServiceDesc{
	ServiceName: "flowctl.v1.ControlPlaneService",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		method("RegisterComponent", func(s *stock, in *flowctlv1pb.RegisterRequest) (any, error) {
			id := in.GetComponentId()
			if s.assigned != "" && id == "source" {
				id = s.assigned
			}
			s.services[id] = &flowctlv1pb.ComponentStatusResponse{
				Component:    in.GetComponent(),
				Metrics:      map[string]string{},
				RegisteredAt: timestamppb.Now(),
			}
			s.services[id].Component.Id = id
			return &flowctlv1pb.RegisterResponse{ServiceId: id}, nil
		}),
		method("UnregisterComponent", func(s *stock, in *flowctlv1pb.UnregisterRequest) (any, error) {
			delete(s.services, in.GetServiceId())
			return &emptypb.Empty{}, nil
		}),
		method("Heartbeat", func(s *stock, in *flowctlv1pb.HeartbeatRequest) (any, error) {
			service := s.services[in.GetServiceId()]
			if service == nil {
				return nil, errForgotten
			}
			service.Status = in.GetStatus()
			maps.Copy(service.Metrics, in.GetMetrics())
			return &emptypb.Empty{}, nil
		}),
		method("ListComponents", func(s *stock, in *flowctlv1pb.ListComponentsRequest) (any, error) {
			list := &flowctlv1pb.ListComponentsResponse{}
			for _, id := range slices.Sorted(maps.Keys(s.services)) {
				list.Components = append(list.Components, proto.CloneOf(s.services[id]))
			}
			return list, nil
		}),
	},
}

var olderStock = grpc.ServiceDesc{
	ServiceName: "flowctl.ControlPlane",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{
		method("Register", func(s *stock, in *flowctlpb.ServiceInfo) (any, error) {
			s.services[in.GetServiceId()] = &flowctlv1pb.ComponentStatusResponse{
				Component: &flowctlv1pb.ComponentInfo{Type: flowctlv1pb.ComponentType(in.GetServiceType())},
				Metrics:   map[string]string{},
			}
			return &flowctlpb.RegistrationAck{ServiceId: in.GetServiceId()}, nil
		}),
		method("Heartbeat", func(s *stock, in *flowctlpb.ServiceHeartbeat) (any, error) {
			service := s.services[in.GetServiceId()]
			if service == nil {
				return nil, errForgotten
			}
			for key, v := range in.GetMetrics() {
				service.Metrics[key] = convert.FormatMetric(v)
			}
			return &emptypb.Empty{}, nil
		}),
		method("ListServices", func(s *stock, _ *emptypb.Empty) (any, error) {
			list := &flowctlpb.ServiceList{}
			for id, service := range s.services {
				status := &flowctlpb.ServiceStatus{
					ServiceId:   id,
					IsHealthy:   true,
					ServiceType: flowctlpb.ServiceType(service.GetComponent().GetType()),
					Metrics:     map[string]float64{},
				}
				for key, text := range service.GetMetrics() {
					status.Metrics[key] = parse(text)
				}
				list.Services = append(list.Services, status)
			}
			return list, nil
		}),
	},
}

func parse(text string) (v float64) {
	metrics := convert.ParseMetrics(map[string]string{"x": text})
	return metrics["x"]
}

func startStock(t *testing.T, services ...*grpc.ServiceDesc) (*plane, *stock) {
	p := &plane{t: t, grpc: grpc.NewServer(), done: make(chan struct{})}
	s := &stock{services: map[string]*flowctlv1pb.ComponentStatusResponse{}}
	for _, desc := range services {
		p.grpc.RegisterService(desc, s)
	}
	listener := bufconn.Listen(1 << 16)
	p.listener.Store(listener)
	var l net.Listener = listener
	go func() { defer close(p.done); p.grpc.Serve(l) }()
	t.Cleanup(func() { p.grpc.Stop(); <-p.done })
	return p, s
}

func TestAgainstAStockControlPlaneTheAgentsDecide(t *testing.T) {
	for name, services := range map[string][]*grpc.ServiceDesc{
		"newer service": {&newerStock},
		"older service": {&olderStock},
		"both":          {&newerStock, &olderStock},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := startStock(t, services...)
				source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
				sink := startPart(t, p, controlplane.Component{ID: "sink", Kind: topology.KindSink})
				time.Sleep(3 * time.Second)
				require.Equal(t, backpressure.Polling, source.Mode())
				require.Equal(t, 1.0, source.fraction.get())

				sink.inFlight.Store(95)
				time.Sleep(4 * time.Second) // its beat, our poll, and some closing
				require.Less(t, source.fraction.get(), 0.9, "the source reads the sink's load and slows")
				require.True(t, source.Local().Active())
				require.True(t, sink.Local().Active(), "everybody decides alike, within a poll")

				s.mu.Lock()
				s.services = map[string]*flowctlv1pb.ComponentStatusResponse{} // as after a restart
				s.mu.Unlock()
				time.Sleep(5 * time.Second)
				s.mu.Lock()
				require.Contains(t, s.services, "source")
				require.Contains(t, s.services, "sink")
				require.Equal(t, "95", s.services["sink"].GetMetrics()[controlplane.MetricInFlight])
				s.mu.Unlock()
				require.Positive(t, source.Stats().Reconnects["forgotten"])
				require.Less(t, source.fraction.get(), 1.0, "forgotten, but not released")

				sink.inFlight.Store(5)
				time.Sleep(20 * time.Second)
				require.Equal(t, 1.0, source.fraction.get())
			})
		})
	}
}

// Two pipelines that event types join, and one of them is full: against a stock
// control plane, too, the other must not notice.
func TestAgainstAStockControlPlanePathsFollowEventTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := startStock(t, &newerStock)
		start := func(pipeline string) (source, sink *part) {
			source = startPart(
				t, p,
				controlplane.Component{ID: pipeline + "-source", Kind: topology.KindSource, OutputEventTypes: []string{pipeline}},
			)
			sink = startPart(
				t, p,
				controlplane.Component{ID: pipeline + "-sink", Kind: topology.KindSink, InputEventTypes: []string{pipeline}},
			)
			return source, sink
		}
		calm, _ := start("calm")
		full, sink := start("full")
		time.Sleep(3 * time.Second)
		sink.inFlight.Store(97)
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			require.Equal(t, 1.0, calm.fraction.get())
		}
		require.Less(t, full.fraction.get(), 0.3)
	})
}

// Stock components are those that beat without an agent, while they do.
func TestStockComponentsAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{})
		c := newCaller(t, p)
		startPart(t, p, controlplane.Component{ID: "agent"})
		require.NoError(t, c.register("sdk"))
		time.Sleep(time.Second)
		require.Equal(t, []string{"sdk"}, p.server.Stock())
		time.Sleep(31 * time.Second)
		require.Empty(t, p.server.Stock(), "what it last said is no figure of now")
		require.NoError(t, c.beat("sdk", nil))
		require.Equal(t, []string{"sdk"}, p.server.Stock())
	})
}

// Against a stock control plane, too, a full sink of another pipeline moves nothing,
// whatever it declares.
func TestAgainstAStockControlPlaneOtherPipelinesDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := startStock(t, &newerStock)
		start := func(pipeline, id string, upstreams ...string) *part {
			return startPart(t, p, controlplane.Component{ID: id, PipelineID: pipeline, Upstreams: upstreams})
		}
		calm, full := start("a", "a-source"), start("b", "b-source")
		sink := start("b", "b-sink")
		time.Sleep(3 * time.Second)
		sink.inFlight.Store(97)
		time.Sleep(10 * time.Second)
		require.Equal(t, 1.0, calm.fraction.get())
		require.Less(t, full.fraction.get(), 0.5)
	})
}

// What a stock control plane has not heard anew is no new observation.
func TestAStockHeartbeatIsObservedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := startStock(t, &newerStock)
		source := startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		s.mu.Lock()
		s.services["sink"] = &flowctlv1pb.ComponentStatusResponse{
			Component: &flowctlv1pb.ComponentInfo{Id: "sink"}, LastHeartbeat: timestamppb.Now(),
			Metrics: map[string]string{controlplane.MetricInFlight: "85", controlplane.MetricMaxInFlight: "100"},
		}
		s.mu.Unlock()
		time.Sleep(5 * time.Second)
		fraction := source.fraction.get()
		require.Less(t, fraction, 1.0)
		time.Sleep(20 * time.Second)
		require.Equal(t, fraction, source.fraction.get(), "the component has been silent since")
	})
}

func TestTheAssignedIDIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := startStock(t, &newerStock)
		s.assigned = "source-7"
		startPart(t, p, controlplane.Component{ID: "source", Kind: topology.KindSource})
		time.Sleep(12 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		require.NotEmpty(t, s.services["source-7"].GetMetrics())
	})
}

// TestStockToolsWorkUnchanged speaks to our server as stock tools and
// components do: by method names and field numbers alone.
func TestStockToolsWorkUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := startPlane(t, server.Config{Decision: backpressure.Config{Learn: -1, Policy: backpressure.Step{}}})
		conn := p.dial()
		defer conn.Close()
		call := func(method string, in, out proto.Message) error { return conn.Invoke(t.Context(), method, in, out) }

		ack := &flowctlpb.RegistrationAck{}
		require.NoError(t, call("/flowctl.ControlPlane/Register", &flowctlpb.ServiceInfo{
			ServiceId: "old", ServiceType: flowctlpb.ServiceType_SERVICE_TYPE_SINK,
			MaxInflight: 100, InputEventTypes: []string{"events"},
		}, ack))
		require.Equal(t, "old", ack.GetServiceId())
		require.NoError(t, call("/flowctl.v1.ControlPlaneService/RegisterComponent", &flowctlv1pb.RegisterRequest{
			ComponentId: "new",
			Component: &flowctlv1pb.ComponentInfo{
				Id: "loses", Type: flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE, OutputEventTypes: []string{"events"},
				Endpoint: "10.0.0.1:8815", Metadata: map[string]string{"zone": "a"},
			},
		}, &flowctlv1pb.RegisterResponse{}))

		require.NoError(
			t,
			call(
				"/flowctl.ControlPlane/Heartbeat",
				&flowctlpb.ServiceHeartbeat{
					ServiceId: "old",
					Metrics:   map[string]float64{controlplane.MetricInFlight: 90, "mine": 7},
				},
				&emptypb.Empty{},
			),
		)
		require.True(t, p.server.Controller().Active(), "max_inflight of the registration counts")
		require.NoError(t, call("/flowctl.v1.ControlPlaneService/Heartbeat", &flowctlv1pb.HeartbeatRequest{
			ServiceId: "new", Status: flowctlv1pb.HealthStatus_HEALTH_STATUS_DEGRADED,
			Metrics: map[string]string{controlplane.MetricInFlight: "1", "note": "free text"},
		}, &emptypb.Empty{}))
		require.NoError(
			t,
			call(
				"/flowctl.v1.ControlPlaneService/Heartbeat",
				&flowctlv1pb.HeartbeatRequest{ServiceId: "new", Metrics: map[string]string{"second": "2"}}, &emptypb.Empty{},
			),
		)

		found := &flowctlv1pb.DiscoveryResponse{}
		for _, request := range []*flowctlv1pb.DiscoveryRequest{
			{Type: flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE},
			{EventTypes: []string{"nothing", "events"}, MetadataFilters: map[string]string{"zone": "a"}},
		} {
			require.NoError(t, call("/flowctl.v1.ControlPlaneService/DiscoverComponents", request, found))
			require.Len(t, found.GetComponents(), 1)
			require.Equal(t, "10.0.0.1:8815", found.GetComponents()[0].GetEndpoint())
		}
		one := &flowctlv1pb.ComponentStatusResponse{}
		require.NoError(
			t,
			call(
				"/flowctl.v1.ControlPlaneService/GetComponentStatus", &flowctlv1pb.ComponentStatusRequest{ServiceId: "new"}, one,
			),
		)
		require.Equal(t, flowctlv1pb.HealthStatus_HEALTH_STATUS_DEGRADED, one.GetStatus(), "status 0 keeps the stored one")
		require.Equal(
			t, map[string]string{controlplane.MetricInFlight: "1", "second": "2"}, one.GetMetrics(), "metrics merge",
		)

		state := &flowctlpb.ServiceStatus{}
		require.NoError(t, call("/flowctl.ControlPlane/GetServiceStatus", &flowctlpb.ServiceInfo{ServiceId: "old"}, state))
		require.Equal(t, 7.0, state.GetMetrics()["mine"])
		require.True(t, state.GetIsHealthy())

		time.Sleep(41 * time.Second) // 30 s without a heartbeat, and the janitor's look
		require.NoError(t, call("/flowctl.ControlPlane/GetServiceStatus", &flowctlpb.ServiceInfo{ServiceId: "old"}, state))
		require.False(t, state.GetIsHealthy())
		require.Empty(t, p.server.Controller().Snapshot().Services, "a silent service leaves the sums")
		require.NoError(
			t, call("/flowctl.ControlPlane/Heartbeat", &flowctlpb.ServiceHeartbeat{ServiceId: "old"}, &emptypb.Empty{}),
		)
		require.EqualValues(t, 90, p.server.Controller().Snapshot().InFlight, "and counts once on its return")

		err := call("/flowctl.ControlPlane/Heartbeat", &flowctlpb.ServiceHeartbeat{ServiceId: "never"}, &emptypb.Empty{})
		require.Equal(t, codes.NotFound, status.Code(err))
		err = call("/flowctl.ControlPlane/CreatePipelineRun", &emptypb.Empty{}, &emptypb.Empty{})
		require.Equal(t, codes.Unimplemented, status.Code(err))
	})
}
