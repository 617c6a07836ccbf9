package backpressure

import (
	"errors"
	"fmt"
	"strings"
)

// ErrRejected is what every error of this package is, by errors.Is: a report, a
// signal or a setting that changed nothing. It is never worth a retry with the same
// values, except after [TooMany] and [ClockSkew].
var ErrRejected = errors.New("backpressure: rejected")

// Reason says why a call was rejected. It is a closed set, fit for a metric's label;
// [Controller.Rejected] counts by it.
type Reason uint8

const (
	// BadConfig: a setting out of its range.
	BadConfig Reason = iota
	// BadID: an empty, oversized or unprintable service id.
	BadID
	// BadNumber: NaN, infinite, negative or out of the field's range.
	BadNumber
	// Implausible: a number beyond what any component could mean.
	Implausible
	// ClockSkew: a time too far from ours.
	ClockSkew
	// UnknownService: a service that was never reported, or has expired.
	UnknownService
	// TooMany: more services, or more entries in a list, than the limits allow.
	TooMany

	reasons
)

var reasonNames = [reasons]string{
	"bad_config", "bad_id", "bad_number", "implausible", "clock_skew", "unknown_service", "too_many",
}

// String returns the reason's name, fit for a metric's label.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Error carries the facts of a rejection. What came from outside is shortened to 64
// bytes, so that an error may be logged whatever was sent.
type Error struct {
	Reason    Reason
	ServiceID string // whose report; shortened
	Field     string // which field, "" when the whole
	Value     string // what it held; shortened
	Want      string // what it may hold

	cause error
}

// Error describes the rejection. Text from outside is quoted.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("backpressure: rejected: ")
	b.WriteString(e.Reason.String())
	if e.ServiceID != "" {
		fmt.Fprintf(&b, ": service %q", e.ServiceID)
	}
	if e.Field != "" {
		fmt.Fprintf(&b, ": %s is %s", e.Field, e.Value)
	}
	if e.Want != "" {
		fmt.Fprintf(&b, ", want %s", e.Want)
	}
	if e.cause != nil {
		fmt.Fprintf(&b, ": %v", e.cause)
	}
	return b.String()
}

// Is reports that every Error is an ErrRejected.
func (e *Error) Is(target error) bool { return target == ErrRejected }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// shorten keeps hostile text from filling errors and logs.
func shorten(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
