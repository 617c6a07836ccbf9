package connpool

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrRejected matches (errors.Is) every call that the pool itself, not the
// server, rejected. The facts are in [Error].
var ErrRejected = errors.New("connpool: rejected")

// ErrClosed matches the calls that are made after Close or Shutdown.
var ErrClosed = errors.New("connpool: closed")

// Reason says why the pool rejected a call. The set is closed.
type Reason uint8

const (
	// ReasonClosed: the pool was closed.
	ReasonClosed Reason = iota
	// ReasonSaturated: every connection was full, and the queue was too or is off.
	ReasonSaturated
	// ReasonUnreachable: no connection is healthy. The server cannot be reached, or
	// it says that it is not serving.
	ReasonUnreachable
	// ReasonBreakerOpen: the endpoint's circuit breaker is open.
	ReasonBreakerOpen
	// ReasonUnknownLane: the call names a lane that the pool does not have.
	ReasonUnknownLane
	// ReasonMoved: the call was taken back from a lost connection at the moment
	// at which that connection sent it after all, so it cannot be sent again safely.
	ReasonMoved

	reasons = iota
)

// String names the reason as it stands in labels and logs.
func (r Reason) String() string {
	return name(r, "closed", "saturated", "unreachable", "breaker_open", "unknown_lane", "moved")
}

// Error is a call that the pool itself rejected. It carries a gRPC status, so
// status.Code works on it, and unwraps to its cause.
type Error struct {
	// Reason of the rejection.
	Reason Reason
	// Endpoint is the pool's target, Lane the lane ("" = the main one).
	Endpoint, Lane string
	// Cause is the last error to connect, or the context's; may be nil.
	Cause error
	// RetryAfter is the time until the pool itself tries again; 0 = unknown.
	RetryAfter time.Duration
	// Waited is how long the call stood in the queue.
	Waited time.Duration
}

// Error names the endpoint, the reason, the cause and the next attempt.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "connpool: %s: %s", e.Endpoint, strings.ReplaceAll(e.Reason.String(), "_", " "))
	if e.Lane != "" {
		fmt.Fprintf(&b, " (lane %s)", e.Lane)
	}
	if e.Waited > 0 {
		fmt.Fprintf(&b, " after waiting %v", e.Waited.Round(time.Millisecond))
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, "; next attempt in %v", e.RetryAfter.Round(time.Millisecond))
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is ErrRejected, or ErrClosed for a closed pool.
func (e *Error) Is(target error) bool {
	return target == ErrRejected || target == ErrClosed && e.Reason == ReasonClosed
}

// GRPCStatus is the one place where the package makes a status. A context's
// end keeps its own code; a closed pool answers as a closed grpc.ClientConn.
func (e *Error) GRPCStatus() *status.Status {
	code := codes.Unavailable
	switch {
	case errors.Is(e.Cause, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(e.Cause, context.Canceled), e.Reason == ReasonClosed:
		code = codes.Canceled
	case e.Reason == ReasonSaturated:
		code = codes.ResourceExhausted
	case e.Reason == ReasonUnknownLane:
		code = codes.InvalidArgument
	}
	return status.New(code, e.Error())
}

func isUnavailable(err error) bool { return status.Code(err) == codes.Unavailable }
