package interceptors

import (
	"context"

	"google.golang.org/grpc/tap"
)

// TapHandle returns a handle for grpc.InTapHandle that rejects calls before
// anything is done for them, while the server drains or the throttler's load is
// at or above critical (1 is full). It reads and keeps no count: what is
// counted in a tap leaks, because not every call that passed it ends in a place
// that could give it back. It runs on the connection's reading goroutine, so it
// waits for nothing.
//
// The rejection has a status and its details, and no trailer: gRPC retries it
// after the backoff of its service config, and a [Client] leaves that to it. So it
// is for load beyond what the interceptors can reject in time, as critical says,
// and not in their place.
func (s *Server) TapHandle(critical float64) tap.ServerInHandle {
	return func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if exempted(info.FullMethodName, alwaysExempt) || exempted(info.FullMethodName, s.exempt) {
			return ctx, nil
		}
		draining := s.isDraining()
		if !draining && gateLoad(s.throttler) < critical {
			return ctx, nil
		}
		e := &Error{
			Reason:     ReasonTap,
			Method:     info.FullMethodName,
			Code:       s.codes.Overload,
			RetryAfter: s.pushback.delay(0),
			Detail:     "overloaded",
		}
		if len(info.Header.Get(retryKey)) > 0 {
			e.RetryAfter = 0 // there is no telling gRPC not to retry, so its Client must not either
		}
		if draining {
			e.Reason, e.Code, e.Detail = ReasonDraining, s.codes.Draining, "the server is shutting down"
		}
		e.Class = newMethod(info.FullMethodName, false, false).class
		s.countRejection(nil, e)
		return ctx, e.GRPCStatus().Err()
	}
}
