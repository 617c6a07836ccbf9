package convert

import (
	"slices"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

// Producers are the ids of the components that write an event type of a pipeline:
// the rule by which event types become upstreams, for the server and for an agent
// that decides by itself. Pipelines of one kind use the same names of event types,
// so only producers of the same pipeline count. It is not safe for concurrent use.
type Producers map[Event]map[string]bool

// An Event is an event type in its pipeline.
type Event struct{ PipelineID, Type string }

// Add notes what c writes.
func (p Producers) Add(c *controlplane.Component) {
	for _, name := range c.OutputEventTypes {
		event := Event{c.PipelineID, name}
		if p[event] == nil {
			p[event] = map[string]bool{}
		}
		p[event][c.ID] = true
	}
}

// Remove is the reverse of Add.
func (p Producers) Remove(c *controlplane.Component) {
	for _, name := range c.OutputEventTypes {
		event := Event{c.PipelineID, name}
		delete(p[event], c.ID)
		if len(p[event]) == 0 {
			delete(p, event)
		}
	}
}

// Upstreams are the ones that c declares, or else the producers of what it
// reads, in order, at most [backpressure.MaxUpstreams]: never everything of the
// kind before. Nil says that c declares nothing from which its place follows;
// empty says that nothing feeds it.
func (p Producers) Upstreams(c *controlplane.Component) []string {
	if c.Upstreams != nil {
		return c.Upstreams
	}
	if len(c.InputEventTypes)+len(c.OutputEventTypes) == 0 {
		return nil
	}
	ids := []string{}
	for _, name := range c.InputEventTypes {
		for id := range p[Event{c.PipelineID, name}] {
			if id != c.ID && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), backpressure.MaxUpstreams)]
}
