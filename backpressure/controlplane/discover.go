package controlplane

import (
	"context"
	"maps"
	"time"

	"google.golang.org/grpc"

	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
)

// Discover asks the control plane for the components that match filter.
func (a *Agent) Discover(ctx context.Context, filter Filter) ([]Component, error) {
	began := time.Now()
	found, err := Discover(ctx, a.conn, filter)
	a.discovery.Store(int64(time.Since(began)))
	return found, err
}

// Discover asks the control plane behind conn for the components that match
// filter. Its order is that of the ids.
func Discover(ctx context.Context, conn grpc.ClientConnInterface, filter Filter) ([]Component, error) {
	wanted := filter.Metadata
	if filter.PipelineID != "" {
		wanted = map[string]string{PipelineKey: filter.PipelineID}
		maps.Copy(wanted, filter.Metadata)
	}
	response, err := flowctlv1pb.Client{Conn: conn}.DiscoverComponents(ctx, &flowctlv1pb.DiscoveryRequest{
		Type:            roleToV1(filter.Role),
		EventTypes:      filter.EventTypes,
		MetadataFilters: wanted,
	})
	if err != nil {
		return nil, err
	}
	components := make([]Component, 0, len(response.GetComponents()))
	for _, info := range response.GetComponents() {
		component, _ := fromV1(info)
		components = append(components, component)
	}
	return components, nil
}

// AgentStats is an agent's state at one moment.
type AgentStats struct {
	Mode     Mode
	Fraction float64
	// SignalAge is the time since the control plane was last heard of; 0 if it
	// never was.
	SignalAge time.Duration
	// Signals counts those received.
	Signals uint64
	// Reconnects counts the attempts after the first, by reason: a closed set.
	Reconnects map[string]uint64
	// Discovery is the time that the last discovery call took.
	Discovery time.Duration
}

// Stats returns the agent's state.
func (a *Agent) Stats() AgentStats {
	stats := AgentStats{
		Mode:       a.Mode(),
		Fraction:   a.Fraction(),
		Signals:    a.signals.Load(),
		Reconnects: make(map[string]uint64, reconnectReasons),
		Discovery:  time.Duration(a.discovery.Load()),
	}
	for i, name := range reconnectNames {
		stats.Reconnects[name] = a.reconnects[i].Load()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.heard.IsZero() {
		stats.SignalAge = time.Since(a.heard)
	}
	return stats
}
