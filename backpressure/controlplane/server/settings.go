package server

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// Calls about a decision are about that of the pipeline whose id they carry, as
// controlplane.WithPipelineID and PipelineDialOptions send it. Without one, settings
// are those of the components without an id, and the state is that of all.

// GetSettings returns the settings in force, to any caller.
func (c coordinationService) GetSettings(
	ctx context.Context, _ *sluicepb.GetSettingsRequest,
) (*sluicepb.Settings, error) {
	id := controlplane.PipelineID(ctx)
	p := c.server.known(id)
	if p == nil {
		return nil, c.server.count(notAPipeline(id))
	}
	return settingsOf(p.controller.Config()), nil
}

// UpdateSettings changes the settings that are given, all or none, and returns those
// in force then.
func (c coordinationService) UpdateSettings(ctx context.Context, in *sluicepb.Settings) (*sluicepb.Settings, error) {
	s := c.server
	if err := s.mayChange(ctx); err != nil {
		return nil, s.count(err)
	}
	return s.change(controlplane.PipelineID(ctx), in)
}

// GetState returns the decision, and for each service its load and its fraction.
// It costs as much as there are services.
func (c coordinationService) GetState(ctx context.Context, _ *sluicepb.GetStateRequest) (*sluicepb.State, error) {
	id := controlplane.PipelineID(ctx)
	p := c.server.known(id)
	if p == nil {
		return nil, c.server.count(notAPipeline(id))
	}
	snapshot := p.controller.Snapshot()
	if id == "" {
		snapshot = c.server.Snapshot()
	}
	state := &sluicepb.State{
		Fraction:    snapshot.Fraction,
		Load:        snapshot.Load,
		Active:      snapshot.Active,
		Activations: snapshot.Activations,
		Learning:    snapshot.Learning,
		Loads:       make(map[string]float64, len(snapshot.Services)),
		Fractions:   make(map[string]float64, len(snapshot.Services)),
	}
	for _, service := range snapshot.Services {
		state.Loads[service.ServiceID] = service.Load
		state.Fractions[service.ServiceID] = service.Admitted
	}
	return state, nil
}

// GetTopology sends the graph as JSON and not as messages: the page and the
// exports read the same form, which carries its own schema version.
func (c coordinationService) GetTopology(context.Context, *sluicepb.GetTopologyRequest) (*sluicepb.Topology, error) {
	graph, err := json.Marshal(c.server.Topology())
	if err != nil {
		return nil, status.Errorf(codes.Internal, "controlplane: topology: %v", err)
	}
	return &sluicepb.Topology{Json: graph}, nil
}

func settingsOf(cfg backpressure.Config) *sluicepb.Settings {
	return &sluicepb.Settings{
		Activation:  &cfg.Activation,
		Recovery:    &cfg.Recovery,
		Floor:       &cfg.Floor,
		Policy:      new(fmt.Sprint(cfg.Policy)),
		Driver:      new(cfg.Driver.String()),
		MaxInFlight: &cfg.MaxInFlight,
	}
}

// apply returns cfg with the settings that are given. What they may hold is judged
// by the controller, all at once, so that thresholds that are right only together
// can be changed together. A policy that stays keeps its own settings.
func apply(cfg backpressure.Config, in *sluicepb.Settings) (backpressure.Config, error) {
	if in.Activation != nil {
		cfg.Activation = *in.Activation
	}
	if in.Recovery != nil {
		cfg.Recovery = *in.Recovery
	}
	if in.Floor != nil {
		cfg.Floor = *in.Floor
	}
	if in.MaxInFlight != nil {
		cfg.MaxInFlight = *in.MaxInFlight
	}
	if in.Policy != nil && *in.Policy != fmt.Sprint(cfg.Policy) {
		switch *in.Policy {
		case "gradual":
			cfg.Policy = backpressure.Gradual{}
		case "step":
			cfg.Policy = backpressure.Step{}
		default:
			return cfg, reject(Invalid, "policy is %q, want gradual or step", *in.Policy)
		}
	}
	if in.Driver != nil {
		if err := cfg.Driver.UnmarshalText([]byte(*in.Driver)); err != nil {
			return cfg, &rejection{reason: Invalid, text: "settings", cause: err}
		}
	}
	return cfg, nil
}
