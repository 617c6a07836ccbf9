package interceptors

import (
	"context"
	"reflect"
)

// callKey finds the innermost governed call that a context belongs to.
type callKey struct{}

// with returns a context that belongs to the call.
func (c *call) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// nest says what the call runs inside of. A call that is made for another one,
// which has passed the same gate and is still open, passes it without asking
// again, and so do its messages: they stand for the work that was admitted. It
// would otherwise wait for room that its caller holds, and a proxy with one gate
// for its Server and its Client would fill up with callers that wait for themselves.
func (c *core) nest(ctx context.Context, cl *call) {
	cl.outer = callFrom(ctx)
	cl.gated = c.throttler != nil && c.policy[cl.kind()] != PolicyTracked
	for o := cl.outer; o != nil && cl.gated; o = o.outer {
		if c.gate != nil && o.core.gate == c.gate && !o.isOver() && (o.gated || o.rides) {
			cl.gated, cl.rides = false, true
		}
	}
}

// paces reports whether the call's messages wait at the gate.
func (c *core) paces(cl *call) bool {
	return c.throttler != nil && !cl.rides && c.policy[cl.kind()] == PolicyPaced
}

// setGate takes the gate. Two gates are one when they are one pointer.
func (c *core) setGate(g Gate) {
	c.throttler = g
	if reflect.ValueOf(g).Kind() == reflect.Pointer {
		c.gate = g
	}
}
