package topology

import (
	"slices"
	"time"
)

// Origin says how an edge is known.
type Origin string

// The origins, the surest first.
const (
	// OriginObserved: an interceptor or a pool sees the two talk.
	OriginObserved Origin = "observed"
	// OriginDeclared: the consumer names the producer as its upstream.
	OriginDeclared Origin = "declared"
	// OriginMatched: an output event type of one is an input event type of the
	// other, and nothing more reliable explains that input.
	OriginMatched Origin = "matched"
)

// State is the state of an edge's connection. Any other text counts as
// StateUnknown.
type State string

// The states.
const (
	StateUnknown    State = "unknown"
	StateConnected  State = "connected"
	StateConnecting State = "connecting"
	StateDegraded   State = "degraded"
	StateDown       State = "down"
)

// Up reports whether data can flow.
func (s State) Up() bool { return s == StateConnected || s == StateDegraded }

// Edge is one producer feeding one consumer. Data flows From -> To, whoever
// dialled.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Endpoint is what the consumer dials. In an observation it may stand in for
	// an empty From: the node that serves it is looked up.
	Endpoint string `json:"endpoint,omitempty"`
	Origin   Origin `json:"origin"`
	State    State  `json:"state"`
	// Connected is State.Up(). Derived.
	Connected     bool      `json:"connected"`
	LastConnected time.Time `json:"last_connected,omitzero"`
	// Reconnects counts how often the connection came back.
	Reconnects uint64 `json:"reconnects,omitempty"`
	// Latency is the measured latency of the hop.
	Latency time.Duration `json:"latency_ns,omitempty"`
	// Throughput is in events per second, ByteRate in bytes per second.
	Throughput float64 `json:"throughput,omitempty"`
	ByteRate   float64 `json:"byte_rate,omitempty"`
	// Blocked is the share of time, 0..1, that the producer's sending was held
	// up by the consumer, blocks still in progress included.
	Blocked float64 `json:"blocked,omitempty"`
	// Pool is the state of the consumer's connection pool, nil without one.
	Pool *Pool `json:"pool,omitempty"`
	// EventTypes are the types that the edge carries, where known.
	EventTypes []string `json:"event_types,omitempty"`
	// Cyclic marks an edge between members of one cycle. Derived.
	Cyclic bool `json:"cyclic,omitempty"`
}

// Pool is the state of a connection pool.
type Pool struct {
	Total      int `json:"total"`
	Healthy    int `json:"healthy"`
	Idle       int `json:"idle,omitempty"`
	Connecting int `json:"connecting,omitempty"`
	Limit      int `json:"limit,omitempty"`
	// Waiters counts the calls that wait for a connection.
	Waiters int `json:"waiters,omitempty"`
	// Streams counts the streams on all connections.
	Streams int `json:"streams,omitempty"`
}

func (e Edge) clone() Edge {
	e.EventTypes = slices.Clone(e.EventTypes)
	if e.Pool != nil {
		e.Pool = new(*e.Pool)
	}
	return e
}

// key is what makes two observations one edge: there is at most one edge in
// each direction between two nodes.
type key struct{ from, to string }

func (e *Edge) key() key { return key{e.From, e.To} }
