// Package convert is the one place where the messages of the wire become the
// nouns of this module, and back. The agent and the server share it.
//
// Numbers that an enum does not know become unknown: a newer peer may send
// them. Free text that does not parse is as if absent.
package convert

import (
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/topology"
)

// KindToV1 is kind in flowctl.v1, where a sink is a consumer.
func KindToV1(kind topology.Kind) flowctlv1pb.ComponentType {
	switch kind {
	case topology.KindSource:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE
	case topology.KindProcessor:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_PROCESSOR
	case topology.KindSink:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER
	default:
		return flowctlv1pb.ComponentType_COMPONENT_TYPE_UNSPECIFIED
	}
}

// KindFromV1 is a component's type in flowctl.v1 as a kind.
func KindFromV1(t flowctlv1pb.ComponentType) topology.Kind {
	switch t {
	case flowctlv1pb.ComponentType_COMPONENT_TYPE_SOURCE:
		return topology.KindSource
	case flowctlv1pb.ComponentType_COMPONENT_TYPE_PROCESSOR:
		return topology.KindProcessor
	case flowctlv1pb.ComponentType_COMPONENT_TYPE_CONSUMER:
		return topology.KindSink
	default:
		return topology.KindUnknown
	}
}

// KindToFlowctl is kind in the older service.
func KindToFlowctl(kind topology.Kind) flowctlpb.ServiceType {
	switch kind {
	case topology.KindSource:
		return flowctlpb.ServiceType_SERVICE_TYPE_SOURCE
	case topology.KindProcessor:
		return flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR
	case topology.KindSink:
		return flowctlpb.ServiceType_SERVICE_TYPE_SINK
	default:
		return flowctlpb.ServiceType_SERVICE_TYPE_UNSPECIFIED
	}
}

// KindFromFlowctl is a service's type in the older service as a kind.
func KindFromFlowctl(t flowctlpb.ServiceType) topology.Kind {
	switch t {
	case flowctlpb.ServiceType_SERVICE_TYPE_SOURCE:
		return topology.KindSource
	case flowctlpb.ServiceType_SERVICE_TYPE_PROCESSOR:
		return topology.KindProcessor
	case flowctlpb.ServiceType_SERVICE_TYPE_SINK:
		return topology.KindSink
	default:
		return topology.KindUnknown
	}
}

// HealthToV1 is health in flowctl.v1, which has no word for a component whose
// heartbeats stopped: it is unhealthy there.
func HealthToV1(health topology.Health) flowctlv1pb.HealthStatus {
	switch health {
	case topology.HealthStarting:
		return flowctlv1pb.HealthStatus_HEALTH_STATUS_STARTING
	case topology.HealthHealthy:
		return flowctlv1pb.HealthStatus_HEALTH_STATUS_HEALTHY
	case topology.HealthDegraded:
		return flowctlv1pb.HealthStatus_HEALTH_STATUS_DEGRADED
	case topology.HealthUnhealthy, topology.HealthDown:
		return flowctlv1pb.HealthStatus_HEALTH_STATUS_UNHEALTHY
	case topology.HealthStopping:
		return flowctlv1pb.HealthStatus_HEALTH_STATUS_STOPPING
	default:
		return flowctlv1pb.HealthStatus_HEALTH_STATUS_UNKNOWN
	}
}

// HealthFromV1 is a status of flowctl.v1 as a health.
func HealthFromV1(s flowctlv1pb.HealthStatus) topology.Health {
	switch s {
	case flowctlv1pb.HealthStatus_HEALTH_STATUS_STARTING:
		return topology.HealthStarting
	case flowctlv1pb.HealthStatus_HEALTH_STATUS_HEALTHY:
		return topology.HealthHealthy
	case flowctlv1pb.HealthStatus_HEALTH_STATUS_DEGRADED:
		return topology.HealthDegraded
	case flowctlv1pb.HealthStatus_HEALTH_STATUS_UNHEALTHY:
		return topology.HealthUnhealthy
	case flowctlv1pb.HealthStatus_HEALTH_STATUS_STOPPING:
		return topology.HealthStopping
	default:
		return topology.HealthUnknown
	}
}
