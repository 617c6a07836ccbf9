package controlplane

import (
	"slices"

	"github.com/withobsrvr/sluice/backpressure"
)

// Filter selects components. A zero field accepts all.
type Filter struct {
	Role backpressure.Role
	// EventTypes: any of them, as input or as output.
	EventTypes []string
	PipelineID string
	// Metadata: all of them.
	Metadata map[string]string
}

func (f *Filter) matches(c *Component) bool {
	if f.Role != backpressure.RoleUnknown && c.Role != f.Role {
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
