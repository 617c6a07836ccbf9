package flowcontrol

import (
	"errors"
	"fmt"
	"time"
)

// ErrRefused matches, with errors.Is, every [*Error].
var ErrRefused = errors.New("flowcontrol: refused")

// A Reason says why a call was refused. The set is closed: it is meant for
// metric labels.
type Reason uint8

// The reasons.
const (
	ReasonNone         Reason = iota
	ReasonFraction            // shed by the admitted fraction
	ReasonInFlight            // the in-flight limit is reached
	ReasonShare               // the gate is hot and the tenant holds its share
	ReasonRate                // the token bucket is empty
	ReasonOversized           // the cost can never fit and the policy refuses it
	ReasonQueueFull           // too many calls wait already
	ReasonQueueTimeout        // waited longer than the queue's target under standing overload
	ReasonMaxWait             // would wait, or waited, longer than Config.MaxWait
	ReasonDeadline            // would wait past the context's deadline
	ReasonCanceled            // the context ended while waiting; counted, never in an Error
	reasons
)

var reasonNames = [reasons]string{
	"none", "fraction", "in_flight", "share", "rate", "oversized", "queue_full",
	"queue_timeout", "max_wait", "deadline", "canceled",
}

// String returns the reason in snake case, as a metric label wants it.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Reasons returns every reason that a refusal can have, in a fixed order.
func Reasons() []Reason {
	all := make([]Reason, 0, reasons-1)
	for r := ReasonFraction; r < reasons; r++ {
		all = append(all, r)
	}
	return all
}

// A Stage is the gate that decided.
type Stage uint8

// The stages, in the order in which a call passes them.
const (
	StageNone Stage = iota
	StageFraction
	StageTokens
	StageInFlight
	StageQueue
	stages
)

var stageNames = [stages]string{"none", "fraction", "tokens", "in_flight", "queue"}

// String returns the stage in snake case.
func (s Stage) String() string {
	if s < stages {
		return stageNames[s]
	}
	return fmt.Sprintf("Stage(%d)", uint8(s))
}

// An Error explains one refusal. It is shared between calls that were refused
// for the same facts, so it must not be changed.
type Error struct {
	Name   string // Config.Name
	Reason Reason
	Stage  Stage
	Weight Weight // the weight that did not fit, where one did not
	// RetryAfter is how long to wait before the same call can succeed. It is
	// exact for tokens; zero means that it is not known, and negative that the
	// call can never succeed.
	RetryAfter time.Duration
	Cost       Cost    // what was asked
	Limit      Cost    // the in-flight limit at that time; negative = none
	InFlight   Cost    // what was in flight at that time
	Fraction   float64 // the admitted fraction at that time
}

// Never is the RetryAfter of a call that can never succeed.
const Never time.Duration = -1

// Error says who refused, why, and when to come back.
func (e *Error) Error() string {
	text := "flowcontrol: "
	if e.Name != "" {
		text += e.Name + ": "
	}
	text += "refused: " + e.Reason.String()
	switch e.Reason {
	case ReasonFraction:
		text += fmt.Sprintf(" (%.3g admitted)", e.Fraction)
	case ReasonInFlight, ReasonQueueFull, ReasonQueueTimeout, ReasonShare, ReasonOversized:
		text += fmt.Sprintf(" (%d of %d %s in flight, %d asked)", e.InFlight.Of(e.Weight), e.Limit.Of(e.Weight), e.Weight, e.Cost.Of(e.Weight))
	case ReasonRate:
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

// Is reports whether target is [ErrRefused].
func (e *Error) Is(target error) bool { return target == ErrRefused }
