package server

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// A pipeline is the decision for the components of one pipeline id, and the streams
// that follow it. Pipelines share nothing: not a limit, not a setting, not a lock.
type pipeline struct {
	controller *backpressure.Controller
	end        context.CancelFunc // ends the goroutine that wakes its sessions

	mu       sync.Mutex // guards what follows
	sessions map[*session]struct{}
}

func (p *pipeline) add(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[s] = struct{}{}
}

func (p *pipeline) remove(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
}

// wake makes every session look for itself whether it has something to send. The lock
// is held for 10,000 writes to channels with room, half a millisecond, and delays only
// agents that come or go.
func (p *pipeline) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.sessions {
		s.notify() // never blocks
	}
}

// pipelines are those of a server, by id. That of the components without an id, "",
// is always there. Another one exists while a component is registered in it, or its
// settings differ from those of all.
type pipelines struct {
	mu      sync.RWMutex // guards what follows
	all     map[string]*pipeline
	changed map[string]bool // settings that an operator has changed
	ended   counters        // of those that are gone
}

// counters are what a pipeline that ends leaves behind: sums over all pipelines must
// not fall.
type counters struct {
	activations, dropped uint64
	rejected             map[backpressure.Reason]uint64
}

func (c *counters) add(one *backpressure.Snapshot) {
	c.activations += one.Activations
	c.dropped += one.SignalsDropped
	for reason, n := range one.Rejected {
		c.rejected[reason] += n
	}
}

// Pipelines returns the ids of the pipelines that there are, in order. The first is
// "", that of the components without an id.
func (s *Server) Pipelines() []string {
	s.pipelines.mu.RLock()
	defer s.pipelines.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.pipelines.all))
}

// Pipeline returns the decision for one pipeline, nil if no component is registered
// in it. It is closed when the last one has left; see [Server.Controller].
func (s *Server) Pipeline(id string) *backpressure.Controller {
	if p := s.known(id); p != nil {
		return p.controller
	}
	return nil
}

func (s *Server) known(id string) *pipeline {
	s.pipelines.mu.RLock()
	defer s.pipelines.mu.RUnlock()
	return s.pipelines.all[id]
}

// pipeline returns the pipeline id, new if there is none yet: with the settings of
// all and what an operator has changed of them for this one.
func (s *Server) pipeline(id string) *pipeline {
	if p := s.known(id); p != nil {
		return p
	}
	s.pipelines.mu.Lock()
	defer s.pipelines.mu.Unlock()
	if p := s.pipelines.all[id]; p != nil {
		return p
	}
	controller, err := s.newController(id)
	if err != nil { // what was stored is no longer valid, as after another -activation
		s.log.Error("settings of a pipeline are not taken up", "pipeline", id, "error", err)
		controller, _ = backpressure.New(s.cfg.Decision) // as at the start
	}
	return s.addLocked(id, controller)
}

func (s *Server) newController(id string) (*backpressure.Controller, error) {
	settings, err := s.store.settings(id)
	if err != nil {
		return nil, err
	}
	cfg, err := apply(s.cfg.Decision, settings)
	if err != nil {
		return nil, err
	}
	return backpressure.New(cfg)
}

func (s *Server) addLocked(id string, controller *backpressure.Controller) *pipeline {
	ctx, end := context.WithCancel(s.closing)
	p := &pipeline{controller: controller, end: end, sessions: map[*session]struct{}{}}
	s.pipelines.all[id] = p
	if s.closing.Err() == nil { // set under the same lock: Close waits for those that run
		s.running.Go(func() { s.wakeSessions(ctx, p) })
	}
	return p
}

// tidy drops the pipeline id if nothing needs it any more. A component that registers
// at this moment is in the registry already, or finds no pipeline and makes a new one.
func (s *Server) tidy(id string) {
	s.pipelines.mu.Lock()
	defer s.pipelines.mu.Unlock()
	p := s.pipelines.all[id]
	if p == nil || id == "" || s.pipelines.changed[id] || s.registry.members(id) > 0 {
		return
	}
	delete(s.pipelines.all, id)
	p.end()
	p.controller.Close()
	last := p.controller.Overview()
	s.pipelines.ended.add(&last)
}

// Snapshot returns the decisions for all pipelines as one: the least fraction, the
// largest load and latency, sums of what can be added, and the settings of the
// pipeline "". Each pipeline is read at one moment, one after the other.
func (s *Server) Snapshot() backpressure.Snapshot {
	all := s.together((*backpressure.Controller).Snapshot)
	slices.SortFunc(all.Services, func(a, b backpressure.ServiceState) int {
		return strings.Compare(a.ServiceID, b.ServiceID)
	})
	return all
}

// Overview is Snapshot without the services, for callers that have them from
// [Server.Components] or the graph.
func (s *Server) Overview() backpressure.Snapshot {
	return s.together((*backpressure.Controller).Overview)
}

func (s *Server) together(read func(*backpressure.Controller) backpressure.Snapshot) backpressure.Snapshot {
	all := read(s.controller)
	s.pipelines.mu.RLock()
	all.Activations += s.pipelines.ended.activations
	all.SignalsDropped += s.pipelines.ended.dropped
	for reason, n := range s.pipelines.ended.rejected {
		all.Rejected[reason] += n
	}
	s.pipelines.mu.RUnlock()
	for _, id := range s.Pipelines()[1:] {
		if c := s.Pipeline(id); c != nil { // its last component may have left
			add(&all, read(c))
		}
	}
	return all
}

// add adds one pipeline's snapshot to all.
func add(all *backpressure.Snapshot, one backpressure.Snapshot) {
	all.Fraction = min(all.Fraction, one.Fraction)
	all.Active = all.Active || one.Active
	all.Learning = all.Learning || one.Learning
	all.Load = max(all.Load, one.Load)
	if one.WorstLoad > all.WorstLoad {
		all.WorstLoad, all.WorstService = one.WorstLoad, one.WorstService
	}
	if limits := all.ServiceLimits + one.ServiceLimits; limits > 0 {
		all.AggregateLoad = (all.AggregateLoad*float64(all.ServiceLimits) +
			one.AggregateLoad*float64(one.ServiceLimits)) / float64(limits)
	}
	all.InFlight += one.InFlight
	all.ServiceLimits += one.ServiceLimits
	all.Activations += one.Activations
	all.ActiveTime = max(all.ActiveTime, one.ActiveTime)
	all.Signals += one.Signals
	all.SignalsDropped += one.SignalsDropped
	for reason, n := range one.Rejected {
		all.Rejected[reason] += n
	}
	all.TotalThroughput += one.TotalThroughput
	all.EndToEndLatency = max(all.EndToEndLatency, one.EndToEndLatency)
	all.Services = append(all.Services, one.Services...)
	all.Paths = append(all.Paths, one.Paths...)
}

// change changes settings of one pipeline, all that are given or none. They are in
// force when it returns. Changes are made one after the other: each starts from what
// the one before left, and the store has them in the same order.
func (s *Server) change(id string, in *sluicepb.Settings) (*sluicepb.Settings, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	p := s.known(id)
	if p == nil {
		return nil, s.count(notAPipeline(id))
	}
	cfg, err := apply(p.controller.Config(), in)
	if err != nil {
		return nil, s.count(err)
	}
	if err := p.controller.Reconfigure(cfg); err != nil {
		return nil, s.count(&rejection{reason: Invalid, text: "settings", cause: err})
	}
	s.pipelines.mu.Lock()
	s.pipelines.changed[id] = true
	s.pipelines.mu.Unlock()
	s.note(s.store.rememberSettings(id, in))
	settings := settingsOf(p.controller.Config())
	s.log.Info("settings changed", "pipeline", id, "settings", settings)
	return settings, nil
}

func notAPipeline(id string) error {
	return reject(NotRegistered, "no component is registered in pipeline %q", id[:min(len(id), 64)])
}
