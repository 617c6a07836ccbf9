package component

// The statuses with which a program ends, beside 0 for a run that did all that
// it was asked to.
const (
	ExitFailed     = 1
	ExitUsage      = 2 // a mistake in flags or environment
	ExitShort      = 3 // all that there is was written, and it is less than was asked for
	ExitIncomplete = 4 // asked to end before the end; the same command continues
)

// A StatusError ends a program with a status of its own.
type StatusError struct {
	Status int
	Err    error
}

// Error is the cause's.
func (e *StatusError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *StatusError) Unwrap() error { return e.Err }
