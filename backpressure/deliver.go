package backpressure

import (
	"sync"
	"sync/atomic"
	"time"
)

// deliveries carries decisions to setters and subscribers, outside the
// controller's mutex: both may call back. One goroutine delivers at a time, the
// newest state. Others that have something to deliver meanwhile leave that to it,
// so that no report waits for a slow setter, and no setter ever sees an older
// value after a newer one. A queue of decisions was the other way: it would need a
// bound, and what it drops at the bound is what this never makes.
type deliveries struct {
	dropped atomic.Uint64 // signals that a newer one replaced

	bindMu   sync.Mutex // guards what follows
	due      bool       // something changed since the last round began
	busy     bool       // a goroutine delivers
	bindings []*binding // replaced, never changed
	watchers []*Subscription
	next     chan struct{} // closed at the next change; nil: not asked for
}

type binding struct {
	id     string // "": the whole pipeline
	setter FractionSetter
	last   float64 // owned by the goroutine that delivers
}

// deliver carries the present decision out, or leaves that to the goroutine that is
// delivering. The caller holds no lock.
func (d *deliveries) deliver(c *Controller) {
	d.bindMu.Lock()
	if d.due = true; d.busy {
		d.bindMu.Unlock()
		return // the goroutine that is busy looks at due again
	}
	d.busy = true
	defer func() { // also when a setter panics
		d.busy = false
		d.bindMu.Unlock()
	}()
	for d.due {
		d.due = false
		bindings, watchers := d.bindings, d.watchers
		if d.next != nil {
			close(d.next)
			d.next = nil
		}
		d.bindMu.Unlock()
		func() {
			defer d.bindMu.Lock()
			deliverOnce(c, bindings, watchers)
		}()
	}
}

// deliverOnce serves subscribers first, because they never block.
func deliverOnce(c *Controller, bindings []*binding, watchers []*Subscription) {
	for _, w := range watchers {
		w.refresh()
	}
	for _, b := range bindings {
		if f := c.FractionFor(b.id); f != b.last {
			b.last = f
			b.setter.SetFraction(f)
		}
	}
}

// Bind sets setter to the pipeline's fraction now and at every change, until
// cancel is called. With several paths it is the least of their fractions; a
// component that is on one of them binds with [Controller.BindService].
//
// SetFraction is called from the goroutine whose report changed the decision, one
// call at a time over all setters, so a slow one delays the others. A call that is
// under way when cancel is called may still end after it.
func (c *Controller) Bind(setter FractionSetter) (cancel func()) {
	return c.BindService("", setter)
}

// BindService is Bind for the fraction of one service, see [Controller.FractionFor].
func (c *Controller) BindService(id string, setter FractionSetter) (cancel func()) {
	b := &binding{id: id, setter: setter, last: -1}
	c.bindMu.Lock()
	c.bindings = append(c.bindings[:len(c.bindings):len(c.bindings)], b)
	c.bindMu.Unlock()
	c.deliver(c)
	return func() {
		c.bindMu.Lock()
		defer c.bindMu.Unlock()
		c.bindings = without(c.bindings, b)
	}
}

// without returns a new list: the old one may be in use by a delivery.
func without[T comparable](list []T, item T) []T {
	kept := make([]T, 0, len(list))
	for _, x := range list {
		if x != item {
			kept = append(kept, x)
		}
	}
	return kept
}

// Changed returns a channel that is closed at the next change of any path's
// decision. One channel serves any number of waiters, so a server with ten
// thousand streams waits on it instead of holding as many subscriptions. Take
// the channel first and read the state after it: then no change is missed.
func (c *Controller) Changed() <-chan struct{} {
	c.bindMu.Lock()
	defer c.bindMu.Unlock()
	if c.next == nil {
		c.next = make(chan struct{})
	}
	return c.next
}

// A Subscription holds the newest signal for one subscriber. A slow subscriber
// misses history, never the newest state, and holds up no other. It gets a signal
// when its fraction or its activity changed, and not for each report.
type Subscription struct {
	c  *Controller
	id string

	mu     sync.Mutex
	ch     chan Signal
	last   Signal
	closed bool
}

// Subscribe returns a subscription to the pipeline's decision. The present
// state is its first signal.
func (c *Controller) Subscribe() *Subscription { return c.SubscribeService("") }

// SubscribeService returns a subscription to the fraction of one service, see
// [Controller.FractionFor].
func (c *Controller) SubscribeService(id string) *Subscription {
	s := &Subscription{c: c, id: id, ch: make(chan Signal, 1)}
	c.bindMu.Lock()
	c.watchers = append(c.watchers[:len(c.watchers):len(c.watchers)], s)
	c.bindMu.Unlock()
	s.refresh() // after it is on the list: between the two a change would be missed
	return s
}

// C returns the channel that holds the newest signal not yet received. It is
// closed by Close.
func (s *Subscription) C() <-chan Signal { return s.ch }

// Close ends the subscription and closes its channel; a signal that waits there can
// still be received. It may be called more than once.
func (s *Subscription) Close() {
	s.c.bindMu.Lock()
	s.c.watchers = without(s.c.watchers, s)
	s.c.bindMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.ch)
	}
}

// refresh replaces what waits in the channel by the present signal, if that is
// another. It never blocks. The signal is read under the mutex, so that of two
// refreshes at once the later one has the newer.
func (s *Subscription) refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	sig := s.c.SignalFor(s.id)
	if s.closed || sig.Fraction == s.last.Fraction && sig.Active == s.last.Active {
		return
	}
	s.last = sig
	select {
	case <-s.ch:
		s.c.dropped.Add(1)
	default:
	}
	s.ch <- sig
}

// A Signal says what a pipeline, or a component, should admit.
type Signal struct {
	// ServiceID is the service whose load led to the signal.
	ServiceID string
	// Load is that load, 0..1 and above when over the limit.
	Load float64
	// Fraction is the share to admit, 0..1: what the handoff calls the
	// recommended rate.
	Fraction float64
	// Active says whether backpressure is on.
	Active bool
	// Time is when the signal was made. Zero in SendSignal: now.
	Time time.Time
	// Reason is for people.
	Reason string
}
