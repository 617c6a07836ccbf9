package flowcontrol

import (
	"errors"
	"fmt"
	"time"
)

// ErrRejected matches, with errors.Is, every [*Error].
var ErrRejected = errors.New("flowcontrol: rejected")

// A Reason says why a call was rejected. The set is closed: it is meant for
// metric labels.
type Reason uint8

// The reasons.
const (
	ReasonNone         Reason = iota
	ReasonFraction            // shed by the admitted fraction
	ReasonInFlight            // the in-flight limit is reached
	ReasonShare               // the gate is hot and the tenant holds its share
	ReasonRate                // the token bucket is empty
	ReasonTenantRate          // the tenant's own token bucket is empty, or fills too late
	ReasonOversized           // the cost can never fit, and Config.RejectOversized is set
	ReasonQueueFull           // too many calls wait already, or a more important one took the place
	ReasonQueueTimeout        // waited longer for room than the queue allows
	ReasonMaxWait             // would wait, or waited, longer than Config.MaxWait
	ReasonDeadline            // would wait for tokens past the context's deadline
	ReasonCanceled            // the context ended while waiting; counted, never in an Error
	reasons
)

var reasonNames = [reasons]string{
	"none", "fraction", "in_flight", "share", "rate", "tenant_rate", "oversized", "queue_full",
	"queue_timeout", "max_wait", "deadline", "canceled",
}

// String returns the reason in snake case, as a metric label wants it.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Reasons returns every reason that a rejection can have, in a fixed order.
func Reasons() []Reason {
	all := make([]Reason, 0, reasons-1)
	for r := ReasonFraction; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}

// An Error explains one rejection. It is shared between calls that were
// rejected for the same facts, so it must not be changed.
type Error struct {
	Name   string // Config.Name
	Reason Reason
	Weight Weight // the weight that did not fit, where one did not
	// RetryAfter is how long to wait before the same call can succeed. It is
	// exact for tokens, those that wait already included; zero means that it is
	// not known, and negative that the call can never succeed.
	RetryAfter time.Duration
	Cost       Cost    // what was asked
	Limit      Cost    // the in-flight limit at that time; negative = none
	InFlight   Cost    // what was in flight at that time
	Fraction   float64 // the admitted fraction at that time
}

// Never is the RetryAfter of a call that can never succeed.
const Never time.Duration = -1

// Error names what rejected the call, why, and when to come back.
func (e *Error) Error() string {
	text := "flowcontrol: "
	if e.Name != "" {
		text += e.Name + ": "
	}
	text += "rejected: " + e.Reason.String()
	switch e.Reason {
	case ReasonFraction:
		text += fmt.Sprintf(" (%.3g admitted)", e.Fraction)
	case ReasonInFlight, ReasonQueueFull, ReasonQueueTimeout, ReasonShare, ReasonOversized:
		text += fmt.Sprintf(" (%d of %d %s in flight, %d asked)",
			e.InFlight.Of(e.Weight), e.Limit.Of(e.Weight), e.Weight, e.Cost.Of(e.Weight))
	case ReasonRate, ReasonTenantRate, ReasonDeadline, ReasonMaxWait:
		text += fmt.Sprintf(" (%d %s asked)", e.Cost.Of(e.Weight), e.Weight)
	}
	switch {
	case e.RetryAfter > 0:
		text += fmt.Sprintf(", retry after %v", e.RetryAfter)
	case e.RetryAfter < 0:
		text += ", never retry"
	}
	return text
}

// Is reports whether target is [ErrRejected].
func (e *Error) Is(target error) bool { return target == ErrRejected }
