package server

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
)

// Reason says why a request was rejected. It is a closed set, fit for a metric's
// label; [Server.Rejected] counts by it.
type Reason uint8

const (
	// Invalid: a field is malformed or out of its range.
	Invalid Reason = iota
	// NotRegistered: no component has this id; it must register (again).
	NotRegistered
	// TooMany: more components, or more entries in a map or list, than the
	// limits allow.
	TooMany
	// NotYours: the caller's identity may not speak for this component.
	NotYours
	// Replaced: another process has registered under this id since.
	Replaced

	reasons
)

var reasonNames = [reasons]string{"invalid", "not_registered", "too_many", "not_yours", "replaced"}

// String returns the reason's name, fit for a metric's label.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// A rejection is the error of a request that changed nothing. It is counted once, where
// a service gives it back, by count.
type rejection struct {
	reason Reason
	text   string // the field or the id, and what it may hold
	cause  error
}

func (e *rejection) Error() string {
	text := "controlplane: " + e.text
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

func (e *rejection) Unwrap() error { return e.cause }

// GRPCStatus makes the rejection a status wherever gRPC sees it.
func (e *rejection) GRPCStatus() *status.Status {
	code := codes.InvalidArgument
	switch e.reason {
	case NotRegistered:
		code = codes.NotFound
	case TooMany:
		code = codes.ResourceExhausted
	case NotYours:
		code = codes.PermissionDenied
	case Replaced:
		code = codes.Aborted
	}
	return status.New(code, e.Error())
}

func reject(reason Reason, format string, args ...any) error {
	return &rejection{reason: reason, text: fmt.Sprintf(format, args...)}
}

var errReplaced = reject(Replaced, "another agent registered under this id")

func notRegistered(id string) error {
	return reject(NotRegistered, "component %q is not registered", id[:min(len(id), 64)])
}

// rejectedReport makes the controller's error one of ours, whose cause it stays: the
// caller reads which field was wrong.
func rejectedReport(err error) error {
	reason := Invalid
	if decided, ok := errors.AsType[*backpressure.Error](err); ok {
		switch decided.Reason {
		case backpressure.UnknownService:
			reason = NotRegistered
		case backpressure.TooMany:
			reason = TooMany
		}
	}
	return &rejection{reason: reason, text: "report", cause: err}
}

// count notes err if it is a rejection, and returns it.
func (s *Server) count(err error) error {
	if r, ok := errors.AsType[*rejection](err); ok {
		s.rejected[r.reason].Add(1)
	}
	return err
}

// undecoded counts what gRPC has rejected for us, too large or no message at all, and
// leaves the other ends of a stream alone. Without it a caller that sends nonsense
// would show in no count.
func (s *Server) undecoded(err error) {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		s.rejected[TooMany].Add(1)
	case codes.Internal:
		s.rejected[Invalid].Add(1)
	}
}
