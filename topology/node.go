package topology

import (
	"maps"
	"slices"
	"time"
)

// Kind is a node's place in the pipeline.
type Kind string

// The kinds. Any other text counts as KindUnknown.
const (
	KindUnknown   Kind = "UNKNOWN"
	KindSource    Kind = "SOURCE"
	KindProcessor Kind = "PROCESSOR"
	KindSink      Kind = "SINK"
	// KindControl is the control plane itself. It is listed, never laid out
	// between the stages.
	KindControl Kind = "CONTROL"
)

// Health is how a node is. Any other text counts as HealthUnknown.
type Health string

// The healths, best first.
const (
	HealthHealthy   Health = "healthy"
	HealthStarting  Health = "starting"
	HealthDegraded  Health = "degraded"
	HealthUnhealthy Health = "unhealthy"
	HealthStopping  Health = "stopping"
	// HealthDown is a node whose heartbeats stopped.
	HealthDown Health = "down"
	// HealthUnknown is a node that others name and that is not registered.
	HealthUnknown Health = "unknown"
)

// Gone reports whether the node's figures are no longer current.
func (h Health) Gone() bool { return h == HealthDown || h == HealthUnknown || h == "" }

// Node is one component: who it is, and how it is (its [Status]).
type Node struct {
	// ID is the service id. Required, at most 512 bytes.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Name is shown instead of the id where it is set.
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	// Endpoint is where the node serves its data, host:port. Observations that
	// know only an endpoint find the node by it.
	Endpoint       string `json:"endpoint,omitempty"`
	HealthEndpoint string `json:"health_endpoint,omitempty"`
	// InputEventTypes and OutputEventTypes are matched between nodes into edges,
	// for inputs that no declared or observed edge explains.
	InputEventTypes  []string `json:"input_event_types,omitempty"`
	OutputEventTypes []string `json:"output_event_types,omitempty"`
	// Upstreams are the ids of the nodes that this one says it reads from.
	Upstreams    []string          `json:"upstreams,omitempty"`
	Metadata     map[string]string `json:"metadata,omitempty"`
	RegisteredAt time.Time         `json:"registered_at,omitzero"`
	// StaleAfter is the age of the last heartbeat at which the node counts as
	// down. Zero: the tracker's. Negative: never.
	StaleAfter time.Duration `json:"-"`

	Status

	// Cause marks the bottleneck. Derived.
	Cause bool `json:"cause,omitempty"`
	// Cyclic marks a member of a cycle. Derived.
	Cyclic bool `json:"cyclic,omitempty"`
}

// Status is how a node is, from its last report. Zero figures are unknown or
// none. A NaN, an infinity or a negative figure counts as zero.
type Status struct {
	// Health. Empty in a report: healthy.
	Health Health `json:"health"`
	// Load is 0..1 of the node's limit, and beyond 1 when it is over it. Zero:
	// InFlight / MaxInFlight.
	Load        float64 `json:"load"`
	InFlight    int64   `json:"in_flight"`
	MaxInFlight int64   `json:"max_in_flight,omitempty"`
	// Peak is the largest in flight since the sample before.
	Peak          int64 `json:"peak,omitempty"`
	QueueDepth    int64 `json:"queue_depth,omitempty"`
	QueueCapacity int64 `json:"queue_capacity,omitempty"`
	// Fraction is the share that the node admits. Zero is shown as 1.
	Fraction float64 `json:"fraction,omitempty"`
	// InRate and OutRate are in events per second, ErrorRate in errors per second.
	InRate    float64 `json:"in_rate,omitempty"`
	OutRate   float64 `json:"out_rate,omitempty"`
	ErrorRate float64 `json:"error_rate,omitempty"`
	// ErrorRatio is the share of units that failed, 0..1.
	ErrorRatio float64       `json:"error_ratio,omitempty"`
	Latency    time.Duration `json:"latency_ns,omitempty"`
	// LastHeartbeat is when the node was last heard of. Zero: it never goes stale.
	LastHeartbeat time.Time `json:"last_heartbeat,omitzero"`
	// Active says that the node itself sees backpressure as active.
	Active bool `json:"active,omitempty"`
}

// Title is the name, or the id.
func (n *Node) Title() string {
	if n.Name != "" {
		return n.Name
	}
	return n.ID
}

func (n Node) clone() Node {
	n.InputEventTypes = slices.Clone(n.InputEventTypes)
	n.OutputEventTypes = slices.Clone(n.OutputEventTypes)
	n.Upstreams = slices.Clone(n.Upstreams)
	n.Metadata = maps.Clone(n.Metadata)
	return n
}
