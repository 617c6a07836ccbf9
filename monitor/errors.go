package monitor

import (
	"errors"
	"fmt"
)

// ErrConfig is what every error of this package about a setting is, by
// errors.Is.
var ErrConfig = errors.New("monitor: bad configuration")

// Error carries the facts of a setting that was rejected.
type Error struct {
	Field string // which setting
	Value string // what it held
	Want  string // what it may hold
}

// Error describes the problem.
func (e *Error) Error() string {
	return fmt.Sprintf("monitor: %s is %q, want %s", e.Field, e.Value, e.Want)
}

// Is reports that every Error is an ErrConfig.
func (e *Error) Is(target error) bool { return target == ErrConfig }
