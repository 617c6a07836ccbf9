package connpool

import "context"

type hintsKey struct{}

// hints are what a call's context asks of the pool.
type hints struct {
	lane, affinity string
	hasLane        bool
}

func hintsFrom(ctx context.Context) hints {
	h, _ := ctx.Value(hintsKey{}).(*hints)
	if h == nil {
		return hints{}
	}
	return *h
}

// WithLane sends the calls that are made with the returned context through the
// named lane, whatever their method; "" is the main lane.
func WithLane(ctx context.Context, lane string) context.Context {
	h := hintsFrom(ctx)
	h.lane, h.hasLane = lane, true
	return context.WithValue(ctx, hintsKey{}, &h)
}

// WithAffinity keeps the calls that are made with the returned context, and
// with any other that has the same key, on one connection, as long as it is
// healthy and has room; else they are picked as any other. A Flight SQL session
// behind a load balancer of connections needs it.
func WithAffinity(ctx context.Context, key string) context.Context {
	h := hintsFrom(ctx)
	h.affinity = key
	return context.WithValue(ctx, hintsKey{}, &h)
}
