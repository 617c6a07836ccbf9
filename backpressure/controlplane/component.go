package controlplane

import (
	"slices"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/topology"
)

// Component is what registers: its identity, and where it is found.
type Component struct {
	ID          string // required, see [backpressure.CheckID]
	Name        string
	Description string
	Version     string
	Kind        topology.Kind
	// Endpoint is where the component serves its data, host:port; HealthEndpoint
	// its HTTP endpoint.
	Endpoint       string
	HealthEndpoint string
	// InputEventTypes and OutputEventTypes say what it reads and writes. Where
	// Upstreams is nil, the producers of its inputs are its upstreams.
	InputEventTypes, OutputEventTypes []string
	// Upstreams are the ids of the components that feed this one.
	Upstreams []string
	// MaxInFlight is how many messages it takes at once. 0: not said.
	MaxInFlight int64
	// PipelineID is the pipeline that it belongs to, which is decided apart from all
	// others; "" is one, too. It is registered as metadata under [PipelineKey]; see
	// [PipelineDialOptions] for its calls.
	PipelineID string
	Metadata   map[string]string
}

// Status is a component and what the control plane knows of it now.
type Status struct {
	Component
	// Health is what the component last said of itself.
	Health topology.Health
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

// Healthy says whether a caller may be sent there: a component that says
// nothing of its health is judged by its heartbeats alone.
func (s *Status) Healthy() bool {
	return !s.Stale && !s.Lost && s.Health != topology.HealthUnhealthy && s.Health != topology.HealthStopping
}

// Filter selects components. A zero field accepts all.
type Filter struct {
	Kind topology.Kind
	// EventTypes: any of them, as input or as output.
	EventTypes []string
	PipelineID string
	// Metadata: all of them.
	Metadata map[string]string
}

// Matches says whether the filter accepts c.
func (f *Filter) Matches(c *Component) bool {
	if f.Kind != "" && f.Kind != topology.KindUnknown && c.Kind != f.Kind {
		return false
	}
	if f.PipelineID != "" && c.PipelineID != f.PipelineID {
		return false
	}
	if len(f.EventTypes) > 0 && !slices.ContainsFunc(f.EventTypes, func(event string) bool {
		return slices.Contains(c.InputEventTypes, event) || slices.Contains(c.OutputEventTypes, event)
	}) {
		return false
	}
	for key, value := range f.Metadata {
		if c.Metadata[key] != value {
			return false
		}
	}
	return true
}
