package connpool

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Override changes the shared configuration for one endpoint of a [Manager].
type Override struct {
	// Endpoint is the target as Get names it.
	Endpoint string
	// Change edits a copy of the shared configuration, when the manager is made.
	Change func(*Config)
}

// Manager holds one pool for each endpoint, all configured alike but for the
// overrides. Its methods may be called by any number of goroutines.
type Manager struct {
	cfg       Config
	overrides map[string]Config

	listed atomic.Pointer[[]*Pool] // those of pools, ordered by endpoint; Stats reads it without a lock

	mu     sync.Mutex // guards pools and closed; held across New, which does not block
	pools  map[string]*Pool
	closed bool
}

// NewManager checks the shared configuration and the overrides, and returns an
// empty manager.
func NewManager(cfg Config, overrides ...Override) (*Manager, error) {
	problems := []error{cfg.withDefaults("").validate()}
	m := &Manager{cfg: cfg, overrides: map[string]Config{}, pools: map[string]*Pool{}}
	m.listed.Store(&[]*Pool{})
	m.cfg.Lanes, m.cfg.DialOptions = slices.Clone(cfg.Lanes), slices.Clone(cfg.DialOptions)
	for i, o := range overrides {
		if o.Endpoint == "" || o.Change == nil {
			problems = append(problems,
				fmt.Errorf("overrides[%d] has endpoint %q, want an endpoint and a change", i, o.Endpoint))
			continue
		}
		if _, twice := m.overrides[o.Endpoint]; twice {
			problems = append(problems, fmt.Errorf("overrides[%d] is the second for %q", i, o.Endpoint))
		}
		own := cfg
		own.Lanes, own.DialOptions = slices.Clone(cfg.Lanes), slices.Clone(cfg.DialOptions)
		o.Change(&own)
		if err := own.withDefaults(o.Endpoint).validate(); err != nil {
			problems = append(problems, fmt.Errorf("%q: %w", o.Endpoint, err))
		}
		m.overrides[o.Endpoint] = own
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("connpool: manager: %w", err)
	}
	return m, nil
}

// Get returns the endpoint's pool, and makes it when there is none or when
// the last was closed. It does not wait for a connection. The manager closes
// what it made.
func (m *Manager) Get(endpoint string) (*Pool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, &Error{Reason: ReasonClosed, Endpoint: endpoint}
	}
	if p := m.pools[endpoint]; p != nil && !p.isClosed() {
		return p, nil
	}
	cfg, own := m.overrides[endpoint]
	if !own {
		cfg = m.cfg
	}
	p, err := New(endpoint, cfg)
	if err != nil {
		return nil, err
	}
	m.pools[endpoint] = p
	m.listLocked()
	return p, nil
}

// Remove closes the endpoint's pool, ends its calls, and waits for it; Get makes
// a new one. It does nothing where there is none. For calls that are to end first,
// call Shutdown on the pool before.
func (m *Manager) Remove(endpoint string) {
	m.mu.Lock()
	p := m.pools[endpoint]
	delete(m.pools, endpoint)
	m.listLocked()
	m.mu.Unlock()
	if p != nil {
		_ = p.Close()
	}
}

// Stats returns a snapshot of every pool, ordered by endpoint. It takes no lock
// that Get or a call takes.
func (m *Manager) Stats() []Stats {
	pools := *m.listed.Load()
	stats := make([]Stats, len(pools))
	for i, p := range pools {
		stats[i] = p.Stats()
	}
	return stats
}

// Close closes every pool and waits for them. It is final, and may be called again.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range *m.listed.Load() {
		wg.Go(func() { _ = p.Close() })
	}
	wg.Wait()
	return nil
}

func (m *Manager) listLocked() {
	pools := slices.SortedFunc(maps.Values(m.pools), func(a, b *Pool) int { return cmp.Compare(a.target, b.target) })
	m.listed.Store(&pools)
}
