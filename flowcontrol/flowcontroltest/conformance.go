package flowcontroltest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A Subject makes limiters for [Run]. Each returned limiter is new.
type Subject struct {
	// Full returns a limiter that admits exactly n messages, and then no more
	// within a minute unless room is given back.
	Full func(n int64) Limiter
	// Open makes the limiter admit one more message: it is called after Full's
	// limiter has admitted everything, with one of its permits. Nil releases
	// the permit.
	Open func(Limiter, flowcontrol.Permit)
	// HoldsInFlight says that the limiter counts what is in flight, so that a
	// Release makes room. A pure rate limiter does not.
	HoldsInFlight bool
}

// Run checks that a limiter keeps the contract of the verbs. It is meant to be
// called from a Test function of the limiter's own package.
func Run(t *testing.T, s Subject) {
	t.Helper()
	message := flowcontrol.Cost{Messages: 1}
	fill := func(t *testing.T, n int64) (Limiter, []flowcontrol.Permit) {
		t.Helper()
		l := s.Full(n)
		var held []flowcontrol.Permit
		for i := range n {
			p, err := l.TryAcquire(t.Context(), message)
			if err != nil {
				t.Fatalf("call %d of %d was rejected: %v", i+1, n, err)
			}
			held = append(held, p)
		}
		return l, held
	}
	rejected := func(l Limiter, ctx context.Context) error {
		_, err := l.TryAcquire(ctx, message)
		if err == nil {
			return errors.New("a full limiter admitted a call")
		}
		if !errors.Is(err, flowcontrol.ErrRejected) {
			return fmt.Errorf("the rejection %q does not match flowcontrol.ErrRejected", err)
		}
		return nil
	}

	t.Run("admits what fits and rejects what does not", func(t *testing.T) {
		l, _ := fill(t, 3)
		for range 3 {
			if err := rejected(l, t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("a rejection carries its reason", func(t *testing.T) {
		l, _ := fill(t, 1)
		_, err := l.TryAcquire(t.Context(), message)
		if e, ok := errors.AsType[*flowcontrol.Error](err); !ok || e.Reason == flowcontrol.ReasonNone {
			t.Fatalf("%v carries no flowcontrol.Reason", err)
		}
	})
	t.Run("a call with an ended context changes nothing", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l := s.Full(1)
		if _, err := l.Acquire(ctx, message); !errors.Is(err, context.Canceled) {
			t.Fatalf("Acquire returned %v, want context.Canceled", err)
		}
		if _, err := l.TryAcquire(t.Context(), message); err != nil {
			t.Fatalf("the cancelled call took the room: %v", err)
		}
	})
	t.Run("a wait ends with its context and changes nothing", func(t *testing.T) {
		l, held := fill(t, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { _, err := l.Acquire(ctx, message); done <- err }()
		cancel()
		if err := <-done; err == nil {
			t.Fatal("a full limiter admitted a call")
		}
		s.open(l, held[0])
		p, err := l.TryAcquire(t.Context(), message)
		if err != nil {
			t.Fatalf("the cancelled wait took the room: %v", err)
		}
		p.Release(flowcontrol.Ignored)
	})
	t.Run("a deadline bounds the wait", func(t *testing.T) {
		l, _ := fill(t, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if _, err := l.Acquire(ctx, message); err == nil {
			t.Fatal("a full limiter admitted a call")
		}
	})
	t.Run("never more than fits under contention", func(t *testing.T) {
		l := s.Full(10)
		var mu sync.Mutex
		var held []flowcontrol.Permit
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if p, err := l.TryAcquire(t.Context(), message); err == nil {
					mu.Lock()
					held = append(held, p)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(held) != 10 {
			t.Fatalf("admitted %d at once, want 10", len(held))
		}
	})
	if !s.HoldsInFlight {
		return
	}
	t.Run("only the first release of a permit counts", func(t *testing.T) {
		l, held := fill(t, 2)
		again := held[0]
		held[0].Release(flowcontrol.Success)
		again.Release(flowcontrol.Dropped)
		if _, err := l.TryAcquire(t.Context(), message); err != nil {
			t.Fatalf("the release made no room: %v", err)
		}
		again.Release(flowcontrol.Success)
		if err := rejected(l, t.Context()); err != nil {
			t.Fatalf("after a second release of one permit: %v", err)
		}
	})
	t.Run("a release wakes a waiter", func(t *testing.T) {
		l, held := fill(t, 1)
		done := make(chan error, 1)
		go func() { _, err := l.Acquire(t.Context(), message); done <- err }()
		held[0].Release(flowcontrol.Success)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func (s Subject) open(l Limiter, p flowcontrol.Permit) {
	if s.Open != nil {
		s.Open(l, p)
		return
	}
	p.Release(flowcontrol.Success)
}
