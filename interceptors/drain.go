package interceptors

import (
	"context"
	"fmt"
)

// Drain rejects new calls, waits until the open ones have ended, and returns
// nil. When ctx ends first it cancels those that are left, with an [*Error] of
// [ReasonDraining] as their context's cause and as their status, and returns
// how many they were with the context's cause. It waits for their handlers no
// longer: grpc.Server's GracefulStop, called next, does. Exempt streams, such as
// a health watch, are not waited for; they end with it, because GracefulStop
// would wait for them.
//
// arrow-go's Shutdown is a GracefulStop alone, which an endless DoGet or
// DoExchange holds for ever: Drain is what bounds it. Draining is final, and may
// be called again to wait again.
func (s *Server) Drain(ctx context.Context) error {
	defer s.end()
	select {
	case <-s.startDraining():
		return nil
	case <-ctx.Done():
	}
	n := 0
	s.each(func(cl *call) {
		n++
		cl.kill(cl.describe(s.shutdown()))
	})
	if n == 0 {
		return nil
	}
	return fmt.Errorf("interceptors: drain cancelled %d calls: %w", n, context.Cause(ctx))
}

// startDraining returns a channel that is closed when no call is open.
func (c *core) startDraining() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.calls == 0 {
		none := make(chan struct{})
		close(none)
		return none
	}
	if c.drained == nil {
		c.drained = make(chan struct{})
	}
	return c.drained
}

func (c *core) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}
