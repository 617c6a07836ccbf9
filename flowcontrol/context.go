package flowcontrol

import (
	"context"
	"fmt"
	"time"
)

// A Priority orders the calls that wait: a higher one is served first, and
// takes a lower one's place in a full queue. The zero Priority is [Normal].
type Priority int8

// The priorities. Values outside of this range count as its nearest end.
const (
	Background Priority = -1
	Normal     Priority = 0
	High       Priority = 1
	Critical   Priority = 2
	levels              = 4
)

// String returns the name of the priority in lower case.
func (p Priority) String() string {
	switch p {
	case Background:
		return "background"
	case Normal:
		return "normal"
	case High:
		return "high"
	case Critical:
		return "critical"
	}
	return fmt.Sprintf("Priority(%d)", int8(p))
}

// level is the index of the priority's queue; 0 is served first.
func (p Priority) level() int { return int(Critical - min(max(p, Background), Critical)) }

type (
	priorityKey struct{}
	tenantKey   struct{}
	patientKey  struct{}
)

// WithPriority returns a context whose calls to [Throttler.Acquire] wait with
// priority p.
func WithPriority(ctx context.Context, p Priority) context.Context {
	return context.WithValue(ctx, priorityKey{}, p)
}

// PriorityFrom returns the context's priority, [Normal] where it has none.
func PriorityFrom(ctx context.Context) Priority {
	p, _ := ctx.Value(priorityKey{}).(Priority)
	return p
}

// WithKey returns a context whose calls belong to the tenant key, for the fair
// shares of [Config].MaxKeys. The empty key is a tenant like any other.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, tenantKey{}, key)
}

// KeyFrom returns the context's tenant key, empty where it has none.
func KeyFrom(ctx context.Context) string {
	k, _ := ctx.Value(tenantKey{}).(string)
	return k
}

// WithoutEarlyRejection returns a context whose calls to [Throttler.Acquire]
// wait in order until their deadline, although a call with a deadline is
// otherwise rejected while there is still time to go elsewhere. It is meant for
// the messages of a stream, where a rejection would break the stream.
func WithoutEarlyRejection(ctx context.Context) context.Context {
	return context.WithValue(ctx, patientKey{}, true)
}

// hurry returns the deadline before which a call should be rejected early.
func hurry(ctx context.Context) (time.Time, bool) {
	deadline, ok := ctx.Deadline()
	return deadline, ok && ctx.Value(patientKey{}) == nil
}
