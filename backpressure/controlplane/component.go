package controlplane

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
)

// Metadata keys under which facts travel for which the flowctl services have no
// field. Stock tools show them as they are.
const (
	metaUpstreams      = "sluice.upstreams"
	metaHealthEndpoint = "health_endpoint"
	metaMaxInFlight    = "max_inflight"
	metaHeartbeat      = "sluice.heartbeat_interval"
)

// Health is what a component says of itself.
type Health uint8

// The values are those of flowctl.v1's HealthStatus.
const (
	HealthUnknown Health = iota
	HealthStarting
	HealthHealthy
	HealthDegraded
	HealthUnhealthy
	HealthStopping
)

// String returns the health in lower case.
func (h Health) String() string {
	names := [...]string{"unknown", "starting", "healthy", "degraded", "unhealthy", "stopping"}
	if int(h) < len(names) {
		return names[h]
	}
	return "health(" + strconv.Itoa(int(h)) + ")"
}

// Component is what registers: who it is and where it is found.
type Component struct {
	ID          string // required, see [backpressure.CheckID]
	Name        string
	Description string
	Version     string
	Role        backpressure.Role
	// Endpoint is where the component serves, host:port; HealthEndpoint its HTTP
	// endpoint.
	Endpoint       string
	HealthEndpoint string
	// InputEventTypes and OutputEventTypes say what it reads and writes. Where
	// Upstreams is nil, the producers of its inputs are its upstreams.
	InputEventTypes, OutputEventTypes []string
	// Upstreams are the ids of the components that feed this one.
	Upstreams []string
	// MaxInFlight is how many messages it takes at once. 0: not said.
	MaxInFlight int64
	// PipelineID is the pipeline that it belongs to. It is registered as metadata
	// under [PipelineKey]; see [PipelineDialOptions] for its calls.
	PipelineID string
	Metadata   map[string]string
}

// Status is a component and what is known of it now.
type Status struct {
	Component
	Health Health
	// Stale says that its heartbeats have stopped.
	Stale bool
	// Lost says that its stream broke without a good-bye more than three seconds
	// ago: an agent that lives comes back within one. Its load counts until it is
	// stale, because a cut connection must not release a loaded pipeline.
	Lost          bool
	Registered    time.Time
	LastHeartbeat time.Time
	// Metrics are its latest metrics, by the keys of the heartbeat maps.
	Metrics map[string]float64
	// Report is its latest report.
	Report backpressure.Report
}

func (c *Component) toV1(heartbeat time.Duration) *flowctlv1pb.ComponentInfo {
	metadata := maps.Clone(c.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	put := func(key, value string) {
		if value != "" {
			metadata[key] = value
		}
	}
	put(metaUpstreams, strings.Join(c.Upstreams, ","))
	put(metaHealthEndpoint, c.HealthEndpoint)
	put(PipelineKey, c.PipelineID)
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
		Type:             roleToV1(c.Role),
		InputEventTypes:  c.InputEventTypes,
		OutputEventTypes: c.OutputEventTypes,
		Endpoint:         c.Endpoint,
		Metadata:         metadata,
	}
}

// fromV1 also returns the heartbeat interval that the component announced, 0 if
// it did not. Numbers that do not parse are as if absent: metadata is free text.
func fromV1(in *flowctlv1pb.ComponentInfo) (Component, time.Duration) {
	metadata := maps.Clone(in.GetMetadata())
	take := func(key string) string {
		value := metadata[key]
		delete(metadata, key)
		return value
	}
	c := Component{
		ID:               in.GetId(),
		Name:             in.GetName(),
		Description:      in.GetDescription(),
		Version:          in.GetVersion(),
		Role:             roleFromV1(in.GetType()),
		Endpoint:         in.GetEndpoint(),
		InputEventTypes:  in.GetInputEventTypes(),
		OutputEventTypes: in.GetOutputEventTypes(),
	}
	if upstreams := take(metaUpstreams); upstreams != "" {
		c.Upstreams = strings.Split(upstreams, ",")
	}
	c.PipelineID = metadata[PipelineKey] // stays, for the graph and for filters by metadata
	c.HealthEndpoint = take(metaHealthEndpoint)
	if n, err := strconv.ParseInt(take(metaMaxInFlight), 10, 64); err == nil && n > 0 {
		c.MaxInFlight = n
	}
	heartbeat, err := time.ParseDuration(take(metaHeartbeat))
	if err != nil || heartbeat < 0 {
		heartbeat = 0
	}
	if len(metadata) > 0 { // most have none beyond ours, and an empty map has its size
		c.Metadata = metadata
	}
	return c, heartbeat
}

func fromFlowctl(in *flowctlpb.ServiceInfo) Component {
	return Component{
		ID:               in.GetServiceId(),
		Name:             in.GetComponentId(),
		Role:             roleFromFlowctl(in.GetServiceType()),
		HealthEndpoint:   in.GetHealthEndpoint(),
		InputEventTypes:  in.GetInputEventTypes(),
		OutputEventTypes: in.GetOutputEventTypes(),
		MaxInFlight:      int64(max(in.GetMaxInflight(), 0)),
		Endpoint:         in.GetMetadata()["endpoint"],
		PipelineID:       in.GetMetadata()[PipelineKey],
		Metadata:         maps.Clone(in.GetMetadata()),
	}
}

func roleToV1(r backpressure.Role) flowctlv1pb.ComponentType {
	switch r {
	case backpressure.Source:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE
	case backpressure.Processor:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_PROCESSOR
	case backpressure.Sink:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER
	default:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_UNSPECIFIED
	}
}

func roleFromV1(t flowctlv1pb.ComponentType) backpressure.Role {
	switch t {
	case flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE:
		return backpressure.Source
	case flowctlv1pb.ComponentType_COMPONENT_TYPE_PROCESSOR:
		return backpressure.Processor
	case flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER:
		return backpressure.Sink
	default:
		return backpressure.RoleUnknown
	}
}

func roleToFlowctl(r backpressure.Role) flowctlpb.ServiceType {
	switch r {
	case backpressure.Source:
		return flowctlpb.ServiceType_SERVICE_TYPE_SOURCE
	case backpressure.Processor:
		return flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR
	case backpressure.Sink:
		return flowctlpb.ServiceType_SERVICE_TYPE_SINK
	default:
		return flowctlpb.ServiceType_SERVICE_TYPE_UNSPECIFIED
	}
}

func roleFromFlowctl(t flowctlpb.ServiceType) backpressure.Role {
	switch t {
	case flowctlpb.ServiceType_SERVICE_TYPE_SOURCE:
		return backpressure.Source
	case flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR:
		return backpressure.Processor
	case flowctlpb.ServiceType_SERVICE_TYPE_SINK:
		return backpressure.Sink
	default:
		return backpressure.RoleUnknown
	}
}

// clone shares nothing that the caller may change. The metrics are a copy already.
func (s Status) clone() Status {
	s.InputEventTypes = slices.Clone(s.InputEventTypes)
	s.OutputEventTypes = slices.Clone(s.OutputEventTypes)
	s.Upstreams = slices.Clone(s.Upstreams)
	s.Metadata = maps.Clone(s.Metadata)
	return s
}
