package backpressure

import (
	"fmt"
	"time"
)

// AgentMode says what decides the fraction of a component that has an agent.
type AgentMode uint8

const (
	// Alone: no control plane answers. The component goes on at its last
	// fraction, then at its safe one, and never above what its own load allows.
	Alone AgentMode = iota
	// Coordinated: a Sluice control plane decides.
	Coordinated
	// Polling: the control plane has the stock flowctl services alone; the agent
	// reads the other components' metrics from it and decides.
	Polling
)

// String returns the mode in lower case.
func (m AgentMode) String() string {
	switch m {
	case Alone:
		return "alone"
	case Coordinated:
		return "coordinated"
	case Polling:
		return "polling"
	default:
		return fmt.Sprintf("mode(%d)", uint8(m))
	}
}

// AgentStats is the state of a component's agent at one moment. It stands here,
// and not with the agent, so that a monitor needs no control plane.
type AgentStats struct {
	Mode     AgentMode
	Fraction float64 // 0..1, as the component's throttlers are set
	// SignalAge is the time since the last message of the control plane; 0 if
	// there never was one.
	SignalAge time.Duration
	// Signals counts those received.
	Signals uint64
	// Reconnects counts the attempts after the first, by reason: a closed set.
	Reconnects map[string]uint64
	// Discovery is the time that the last discovery call took.
	Discovery time.Duration
}
