package interceptors

import (
	"context"
	"slices"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// PriorityKey is the metadata key in which a [Client] sends the priority of its
// context (flowcontrol.WithPriority) as a number, and a [Server] finds it.
const PriorityKey = "sluice-priority"

// rank puts the call's priority and its tenant into the context, for the throttler.
func (s *Server) rank(ctx context.Context, cl *call, tenant string) context.Context {
	var p flowcontrol.Priority
	if s.cfg.Priority != nil {
		p = s.cfg.Priority(ctx, cl.method.name)
	} else {
		p = sentPriority(ctx)
	}
	if p != flowcontrol.Normal {
		ctx = flowcontrol.WithPriority(ctx, p)
	}
	if tenant != "" {
		ctx = flowcontrol.WithKey(ctx, tenant)
	}
	return ctx
}

// sentPriority reads the metadata. What is no priority is the normal one.
func sentPriority(ctx context.Context) flowcontrol.Priority {
	values := metadata.ValueFromIncomingContext(ctx, PriorityKey)
	if len(values) == 0 {
		return flowcontrol.Normal
	}
	n, err := strconv.ParseInt(values[0], 10, 8)
	if err != nil {
		return flowcontrol.Normal
	}
	return min(max(flowcontrol.Priority(n), flowcontrol.Background), flowcontrol.Critical)
}

// sendPriority puts the context's priority into the metadata of the call. A
// priority that a call was received with goes on to the calls that it makes,
// because the throttler and the client read the same context.
func sendPriority(ctx context.Context) context.Context {
	p := flowcontrol.PriorityFrom(ctx)
	if p == flowcontrol.Normal {
		return ctx
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && slices.Contains(md.Get(PriorityKey), strconv.Itoa(int(p))) {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, PriorityKey, strconv.Itoa(int(p)))
}
