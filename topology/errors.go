package topology

import (
	"errors"
	"fmt"
)

// Limits of what one registration may cost.
const (
	// maxIDLength bounds an id, a name and an endpoint, in bytes.
	maxIDLength = 512
	// maxListLength bounds event types, upstreams and metadata entries.
	maxListLength = 256
)

// ErrInvalid matches every [*Error].
var ErrInvalid = errors.New("topology: invalid")

// ErrClosed is returned by what was closed.
var ErrClosed = errors.New("topology: closed")

// Error says which field of a registration, report or observation cannot stand.
// The tracker is as before.
type Error struct {
	// ID is the node's id, or "from -> to".
	ID    string
	Field string
	Text  string
}

// Error says what cannot stand.
func (e *Error) Error() string {
	return fmt.Sprintf("topology: %q: %s: %s", e.ID, e.Field, e.Text)
}

// Is reports whether target is [ErrInvalid].
func (e *Error) Is(target error) bool { return target == ErrInvalid }
