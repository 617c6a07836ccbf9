package topology

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/topology/internal/text"
)

// edgesPerNode bounds the observed edges, with TrackerConfig.MaxNodes.
const edgesPerNode = 8

// TrackerConfig configures a [Tracker]. A zero field is its default.
type TrackerConfig struct {
	// Name is the pipeline's name, for headings. Default "pipeline".
	Name string
	// StaleAfter is the age of the last heartbeat at which a node counts as
	// down. Default 30 s. Negative: never.
	StaleAfter time.Duration
	// MaxNodes bounds the nodes. Default 2000. Negative: no bound.
	MaxNodes int
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Tracker builds the graph from registrations, reports and observations.
//
// It is safe for concurrent use. Feeding it is O(1) in the size of the graph,
// a subscriber costs one flag, and a graph is put together when a caller asks
// for it and something changed.
type Tracker struct {
	cfg TrackerConfig

	mu            sync.Mutex
	nodes         map[string]*Node
	observed      map[observedKey]*observation
	pipeline      Pipeline
	alerts        []Alert
	version       uint64
	built         *Graph
	builtUntil    time.Time // when the next node goes stale; zero: never
	subscriptions map[*Subscription]struct{}
}

type observation struct {
	edge       Edge
	reconnects uint64 // seen by the tracker itself
}

// observedKey names the producer by id, or by endpoint where that is all that
// the observer knows.
type observedKey struct{ from, endpoint, to string }

func observedKeyOf(e *Edge) observedKey {
	if e.From != "" {
		return observedKey{from: e.From, to: e.To}
	}
	return observedKey{endpoint: Endpoint(e.Endpoint), to: e.To}
}

// NewTracker returns an empty tracker.
func NewTracker(cfg TrackerConfig) *Tracker {
	cfg.Name = cmp.Or(cfg.Name, "pipeline")
	cfg.StaleAfter = cmp.Or(cfg.StaleAfter, 30*time.Second)
	cfg.MaxNodes = cmp.Or(cfg.MaxNodes, 2000)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Tracker{
		cfg:           cfg,
		nodes:         map[string]*Node{},
		observed:      map[observedKey]*observation{},
		subscriptions: map[*Subscription]struct{}{},
	}
}

// Register adds a node, or replaces it as a whole. An empty Health is starting,
// a zero RegisteredAt is now or as before. On an error nothing changes.
func (t *Tracker) Register(n Node) error {
	if err := n.validate(); err != nil {
		return err
	}
	n = n.clone()
	if n.Health == "" {
		n.Health = HealthStarting
	}
	n.normalize()
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	before, known := t.nodes[n.ID]
	if !known && t.cfg.MaxNodes > 0 && len(t.nodes) >= t.cfg.MaxNodes {
		return &Error{ID: n.ID, Field: "ID", Text: fmt.Sprintf("is one more than the %d nodes that are allowed",
			t.cfg.MaxNodes)}
	}
	if n.RegisteredAt.IsZero() {
		n.RegisteredAt = now
		if known {
			n.RegisteredAt = before.RegisteredAt
		}
	}
	t.nodes[n.ID] = &n
	t.changedLocked()
	return nil
}

// Report replaces how a registered node is. An empty Health is healthy, a zero
// LastHeartbeat is now. An unknown id is an error, and nothing changes.
func (t *Tracker) Report(id string, s Status) error {
	s.Health = cmp.Or(s.Health, HealthHealthy)
	s.normalize()
	if s.LastHeartbeat.IsZero() {
		s.LastHeartbeat = t.cfg.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := t.nodes[text.Valid(id)]
	if !ok {
		return &Error{ID: id, Field: "ID", Text: "is not registered"}
	}
	n.Status = s
	t.changedLocked()
	return nil
}

// Observe adds what an interceptor or a pool sees of one edge, or replaces what
// it saw before. To is required, and From or Endpoint: with an empty From the
// producer is the node that serves the endpoint, now or when it registers. An
// empty Origin is observed, an empty State is connected; LastConnected and
// Reconnects are kept by the tracker where they are zero. On an error nothing
// changes.
func (t *Tracker) Observe(e Edge) error {
	if err := e.validate(); err != nil {
		return err
	}
	e = e.clone()
	e.Origin, e.State = cmp.Or(e.Origin, OriginObserved), cmp.Or(e.State, StateConnected)
	e.normalize()
	k, now := observedKeyOf(&e), t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.observed[k]
	switch {
	case o != nil:
		if e.State.Up() && !o.edge.State.Up() && !o.edge.LastConnected.IsZero() {
			o.reconnects++
		}
	case t.cfg.MaxNodes > 0 && len(t.observed) >= edgesPerNode*t.cfg.MaxNodes:
		return &Error{ID: e.From + " -> " + e.To, Field: "edges", Text: fmt.Sprintf("are more than %d",
			edgesPerNode*t.cfg.MaxNodes)}
	default:
		o = &observation{}
		t.observed[k] = o
	}
	if e.LastConnected.IsZero() {
		e.LastConnected = o.edge.LastConnected
		if e.State.Up() {
			e.LastConnected = now
		}
	}
	e.Reconnects = max(e.Reconnects, o.reconnects)
	o.edge = e
	t.changedLocked()
	return nil
}

// Remove forgets a node and every observation of it. It reports whether the
// node was known.
func (t *Tracker) Remove(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.nodes[id]; !ok {
		return false
	}
	delete(t.nodes, id)
	for k := range t.observed {
		if k.from == id || k.to == id {
			delete(t.observed, k)
		}
	}
	t.changedLocked()
	return true
}

// SetPipeline replaces the figures of the whole: a tracker derives none of them. Give
// it what decides for the pipeline, at each decision. Figures that cannot be count as
// zero; equal ones wake no subscriber.
func (t *Tracker) SetPipeline(p Pipeline) {
	clean(&p.Throughput, &p.Load, &p.Fraction, &p.Activate, &p.Recover)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pipeline != p {
		t.pipeline = p
		t.changedLocked()
	}
}

// SetAlerts replaces the alerts that the page lists. The list is copied; an equal one
// wakes no subscriber.
func (t *Tracker) SetAlerts(alerts []Alert) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !slices.Equal(t.alerts, alerts) {
		t.alerts = slices.Clone(alerts)
		t.changedLocked()
	}
}

// Subscribe returns a subscription to changes. Close it.
func (t *Tracker) Subscribe() *Subscription {
	s := &Subscription{tracker: t, changed: make(chan struct{}, 1), done: make(chan struct{})}
	s.notify()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subscriptions[s] = struct{}{}
	return s
}

func (t *Tracker) changedLocked() {
	t.version++
	t.built = nil
	for s := range t.subscriptions {
		s.notify()
	}
}
