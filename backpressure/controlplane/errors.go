package controlplane

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
)

// ErrRefused is what every refusal of a [Server] is, by errors.Is.
var ErrRefused = errors.New("controlplane: refused")

// Reason says why a request was refused. It is a closed set, fit for a metric's
// label.
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

	reasons
)

var reasonNames = [reasons]string{"invalid", "not_registered", "too_many", "not_yours"}

// String returns the reason's name, fit for a metric's label.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Error carries the facts of a refusal. A refused request changed nothing.
type Error struct {
	Reason Reason
	What   string // the field or the id, and what it may hold
	cause  error
}

// Error describes the refusal.
func (e *Error) Error() string {
	text := "controlplane: " + e.What
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Is reports that every Error is an ErrRefused.
func (e *Error) Is(target error) bool { return target == ErrRefused }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, What: fmt.Sprintf(format, args...)}
}

// refusalOf makes the controller's refusal one of ours.
func refusalOf(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	reason := Invalid
	if decided, ok := errors.AsType[*backpressure.Error](err); ok {
		switch decided.Reason {
		case backpressure.UnknownService:
			reason = NotRegistered
		case backpressure.TooMany:
			reason = TooMany
		}
	}
	return &Error{Reason: reason, What: "report", cause: err}
}

// statusOf is the one place that makes a gRPC status of an error.
func statusOf(err error) error {
	refusal, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	code := codes.InvalidArgument
	switch refusal.Reason {
	case NotRegistered:
		code = codes.NotFound
	case TooMany:
		code = codes.ResourceExhausted
	case NotYours:
		code = codes.PermissionDenied
	}
	return status.Error(code, refusal.Error())
}
