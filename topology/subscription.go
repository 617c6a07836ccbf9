package topology

import (
	"context"
	"sync"
)

// Subscription tells of changes, with latest-value semantics: however slow its
// reader is, the next graph that it gets is the newest one. It costs the
// tracker one flag, never a queue.
type Subscription struct {
	tracker *Tracker
	changed chan struct{}
	done    chan struct{}
	once    sync.Once
}

// Changed has a value when the graph changed since the last value was taken,
// and at first. It never closes.
func (s *Subscription) Changed() <-chan struct{} { return s.changed }

// Next waits for a change and returns the newest graph. It returns the
// context's error when that ends first, and [ErrClosed] after Close.
func (s *Subscription) Next(ctx context.Context) (*Graph, error) {
	select {
	case <-s.changed:
		return s.tracker.Topology(), nil
	case <-s.done:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close ends the subscription. It is idempotent.
func (s *Subscription) Close() {
	s.once.Do(func() {
		close(s.done)
		s.tracker.mu.Lock()
		defer s.tracker.mu.Unlock()
		delete(s.tracker.subscriptions, s)
	})
}

func (s *Subscription) notify() {
	select {
	case s.changed <- struct{}{}:
	default: // the flag is up already
	}
}
