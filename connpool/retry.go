package connpool

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A retrier decides whether one call goes out again.
type retrier struct {
	retries int
	trailer metadata.MD
}

// options adds what the decision needs to see.
func (r *retrier) options(p *Pool, opts []grpc.CallOption) []grpc.CallOption {
	if p.cfg.Retry == nil {
		return opts
	}
	return append(opts[:len(opts):len(opts)], grpc.Trailer(&r.trailer))
}

// again reports whether to try once more, and waits when it has to. Without the
// user's policy only what never left the process is sent again: what the pool
// took back, and what the transport refused.
func (r *retrier) again(ctx context.Context, p *Pool, c *call, method string, err error, unary bool) bool {
	if ctx.Err() != nil || p.isClosed() {
		return false
	}
	phase := c.phase.Load()
	if phase == phaseMoved || phase == phaseTooLate && !unary {
		return true // limits learned bound how often
	}
	if r.retries >= p.cfg.MaxRetries || phase == phaseNew || phase == phaseTooLate {
		return false
	}
	switch {
	case phase == phaseBegun && status.Code(err) == codes.Unavailable:
	case unary && p.cfg.Retry != nil && p.cfg.Retry(method, err):
		if !r.pushback(ctx) {
			return false
		}
	default:
		return false
	}
	r.retries++
	p.counters.retries.Add(1)
	return true
}

// pushback waits as the server asks, or else with a growing, jittered pause. A
// negative or unreadable wish means: not again.
func (r *retrier) pushback(ctx context.Context) bool {
	pause := 50 * time.Millisecond << min(r.retries, 10)
	pause = pause/2 + jitter(pause)
	if wish, given, again := wishOf(r.trailer.Get("grpc-retry-pushback-ms")); !again {
		return false
	} else if given {
		pause = wish
	}
	r.trailer = nil
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// wishOf reads a server's pushback. What it does not understand means: not again.
func wishOf(values []string) (pause time.Duration, given, again bool) {
	if len(values) == 0 {
		return 0, false, true
	}
	ms, err := strconv.ParseInt(values[0], 10, 32) // gRPC's own are 32 bits too
	if len(values) > 1 || err != nil || ms < 0 {
		return 0, true, false
	}
	return time.Duration(ms) * time.Millisecond, true, true
}

// result is what the caller sees of the last attempt.
func (r *retrier) result(ctx context.Context, p *Pool, c *call, err error) error {
	phase := c.phase.Load()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && phase == phaseMoved: // gRPC saw only that it was cancelled
		return c.slot.lane.expired(ctx, c.age())
	case phase == phaseTooLate:
		return &Error{Reason: ReasonMoved, Endpoint: p.target, Lane: c.slot.lane.name}
	case p.ctx.Err() != nil && ctx.Err() == nil && status.Code(err) == codes.Canceled:
		return &Error{Reason: ReasonClosed, Endpoint: p.target, Lane: c.slot.lane.name}
	}
	return err
}
