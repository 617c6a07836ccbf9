package topologytest

import (
	"sync"
	"time"

	"github.com/withobsrvr/sluice/topology"
)

// Scene is a state of the scripted pipeline.
type Scene string

// The scenes.
const (
	// Calm: everything flows.
	Calm Scene = "calm"
	// Busy: a slow sink fills, nothing is throttled yet.
	Busy Scene = "busy"
	// Throttled: backpressure is active, the sink is the bottleneck.
	Throttled Scene = "throttled"
	// Recovering: load has fallen, the gate opens again.
	Recovering Scene = "recovering"
	// Killed: the processor is down.
	Killed Scene = "killed"
)

// Script is a [topology.Source] of a source, a processor and two sinks. It is
// safe for concurrent use.
type Script struct {
	mu    sync.Mutex
	scene Scene
	extra []topology.Node
	moves float64
}

// NewScript returns a script that shows the calm scene.
func NewScript() *Script { return &Script{scene: Calm} }

// Play changes the scene.
func (s *Script) Play(scene Scene) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scene = scene
}

// Add adds a node.
func (s *Script) Add(n topology.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extra = append(s.extra, n)
}

// Topology returns the present scene. Its figures move a little at every call.
func (s *Script) Topology() *topology.Graph {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moves++
	f := figures[s.scene]
	now := time.Now()
	wave := 1 + 0.04*float64(int(s.moves)%5-2)
	rate := f.rate * wave
	node := func(id string, kind topology.Kind, load, fraction, in, out float64, queue int64) topology.Node {
		return topology.Node{
			ID: id, Kind: kind, Version: "1.4.0",
			Status: topology.Status{
				Health: topology.HealthHealthy, Load: min(1, load*wave), InFlight: int64(min(1, load*wave) * 64), MaxInFlight: 64,
				QueueDepth: queue, QueueCapacity: 128, Fraction: fraction, InRate: in, OutRate: out,
				Latency: 3500 * time.Microsecond, LastHeartbeat: now.Add(-2 * time.Second), Active: f.active,
			},
		}
	}
	edge := func(from, to, endpoint string, rate, blocked float64, healthy int) topology.Edge {
		return topology.Edge{
			From: from, To: to, Endpoint: endpoint, Origin: topology.OriginObserved, State: topology.StateConnected,
			Throughput: rate, ByteRate: rate * 310, Blocked: blocked, Latency: 820 * time.Microsecond, Reconnects: 1,
			LastConnected: now.Add(-4 * time.Minute), EventTypes: []string{"ttp"},
			Pool: &topology.Pool{Total: 4, Healthy: healthy, Idle: 1, Limit: 6},
		}
	}
	g := &topology.Graph{
		Name: "token transfers", Time: now,
		Pipeline: topology.Pipeline{
			Throughput: rate, Latency: 42 * time.Millisecond, Load: f.sink, Fraction: f.fraction, Active: f.active,
			Activations: f.activations, Activate: 0.8, Recover: 0.6,
		},
		Nodes: []topology.Node{
			node("stellar-arrow-source", topology.KindSource, f.source, f.fraction, 0, rate, 0),
			node("ttp-arrow-processor", topology.KindProcessor, f.processor, 1, rate, rate, f.queue/4),
			node("arrow-analytics-sink", topology.KindSink, f.sink, 1, rate, rate, f.queue),
			node("audit-sink", topology.KindSink, 0.12, 1, rate/8, rate/8, 0),
		},
		Edges: []topology.Edge{
			edge("stellar-arrow-source", "ttp-arrow-processor", "localhost:8815", rate, f.blocked*0.7, 4),
			edge("ttp-arrow-processor", "arrow-analytics-sink", "localhost:8816", rate, f.blocked, 3),
			edge("ttp-arrow-processor", "audit-sink", "localhost:8816", rate/8, 0, 4),
		},
	}
	if s.scene == Killed {
		g.Nodes[1].Health = topology.HealthDown
		g.Nodes[1].LastHeartbeat = now.Add(-35 * time.Second)
	}
	if f.active {
		g.Alerts = []topology.Alert{{
			Name: "FlowctlBackpressureActive", Severity: "warning",
			Summary: "backpressure has been active for 30 s", Since: now.Add(-time.Minute),
		}}
	}
	g.Nodes = append(g.Nodes, s.extra...)
	return g.Normalize()
}

var figures = map[Scene]struct {
	rate, source, processor, sink, fraction, blocked float64
	queue                                            int64
	active                                           bool
	activations                                      uint64
}{
	Calm: {rate: 12400, source: 0.22, processor: 0.35, sink: 0.31, fraction: 1, queue: 6},
	Busy: {rate: 9800, source: 0.45, processor: 0.55, sink: 0.72, fraction: 1, blocked: 0.21, queue: 41},
	Throttled: {
		rate: 5200, source: 0.71, processor: 0.83, sink: 0.92, fraction: 0.46, blocked: 0.61, queue: 117,
		active: true, activations: 1,
	},
	Recovering: {
		rate: 8600, source: 0.38, processor: 0.44, sink: 0.52, fraction: 0.81, blocked: 0.08, queue: 22,
		active: true, activations: 1,
	},
	Killed: {rate: 0, source: 0.05, processor: 0.83, sink: 0.02, fraction: 1, activations: 1},
}
