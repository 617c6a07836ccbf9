package interceptors

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrRejected matches every rejection of this package: errors.Is(err, ErrRejected).
var ErrRejected = errors.New("interceptors: rejected")

// A Reason says why a call or a message was rejected. The reasons of the
// throttler keep their names; these are this package's own.
type Reason string

// The reasons that are not the throttler's.
const (
	ReasonActiveStreams     Reason = "active_streams"
	ReasonTenantStreams     Reason = "tenant_streams"
	ReasonDraining          Reason = "draining"
	ReasonMessageBytes      Reason = "message_bytes"
	ReasonUncompressedBytes Reason = "uncompressed_bytes"
	ReasonRatio             Reason = "compression_ratio"
	ReasonMalformed         Reason = "malformed"
	ReasonMessageWait       Reason = "message_wait"
	ReasonStalled           Reason = "stalled"
	ReasonTap               Reason = "tap"
)

// Never as the RetryAfter of an [Error] says that coming back is of no use.
const Never time.Duration = -1

// An Error is a rejection, and the cause of the handler's context when a stream
// was ended in the middle. It is a gRPC status too.
type Error struct {
	Reason Reason
	// Method is the full gRPC method.
	Method string
	Class  Class
	// Code is the status code that the client sees.
	Code codes.Code
	// RetryAfter is what the client is told: after how long to come back, or [Never].
	RetryAfter time.Duration
	// Detail says what was too much of what, in words.
	Detail string
	// Cause is the throttler's error, when it was the throttler that rejected.
	Cause error
}

func (e *Error) Error() string {
	detail := e.Detail
	if detail == "" && e.Cause != nil {
		detail = e.Cause.Error()
	}
	if detail == "" {
		return fmt.Sprintf("interceptors: %s rejected (%s)", e.Method, e.Reason)
	}
	return fmt.Sprintf("interceptors: %s rejected (%s): %s", e.Method, e.Reason, detail)
}

// Unwrap makes errors.Is find [ErrRejected] and whatever the throttler said.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrRejected}
	}
	return []error{ErrRejected, e.Cause}
}

// GRPCStatus makes gRPC answer with the rejection's code and details. The message
// is short: the client knows its method, and Cause is not for it.
func (e *Error) GRPCStatus() *status.Status { return e.reply().status }
