package connpool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A breaker rejects calls to an endpoint that keeps failing: closed, open, and
// half-open, where one call at a time probes.
type breaker struct {
	cfg    Breaker
	logger *slog.Logger

	published atomic.Pointer[breakerSnapshot] // for Stats, which takes no lock

	mu      sync.Mutex // guards what follows
	state   breakerState
	fails   int
	probes  int // that succeeded in a row
	probing bool
	until   time.Time // when the next probe may go
	last    error
}

// breakerSnapshot is a breaker's state, and until when an open one rejects.
type breakerSnapshot struct {
	state breakerState
	until time.Time
}

type breakerState uint8

const (
	breakerClosed   breakerState = iota // every call passes
	breakerOpen                         // every call is rejected
	breakerHalfOpen                     // one call at a time probes the endpoint
)

func (s breakerState) String() string { return name(s, "closed", "open", "half_open") }

func newBreaker(cfg Breaker, logger *slog.Logger) *breaker { return &breaker{cfg: cfg, logger: logger} }

// enter lets a call pass, as a probe or not, or says how long to stay away.
func (b *breaker) enter() (probing bool, wait time.Duration) {
	b.mu.Lock()
	defer b.unlock(b.state)
	switch b.state {
	case breakerClosed:
		return false, 0
	case breakerOpen:
		if wait = time.Until(b.until); wait > 0 {
			return false, wait
		}
		b.toLocked(breakerHalfOpen)
	}
	if wait = time.Until(b.until); b.probing && wait > 0 {
		return false, wait
	}
	// A probe that has no outcome for so long, an upload say, is not waited for.
	b.probing, b.until = true, time.Now().Add(b.cfg.OpenFor)
	return true, 0
}

// rejected takes a call that the pool itself rejected. Only an unreachable
// endpoint counts: a full queue or the end of the caller's context says nothing.
func (b *breaker) rejected(err error, probing bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != ReasonUnreachable || errors.Is(err, context.DeadlineExceeded) {
		err = errMoved
	}
	b.done(err, probing)
}

// done takes a call's outcome. What the pool or the caller ended says nothing.
func (b *breaker) done(err error, probing bool) {
	mine := errors.Is(err, errMoved) || errors.Is(err, errAbandoned) ||
		errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled
	failed := err != nil && !mine && b.cfg.IsFailure(err)
	b.mu.Lock()
	defer b.unlock(b.state)
	if probing {
		b.probing = false
	}
	switch {
	case mine:
	case failed && (probing || b.state == breakerClosed):
		b.last = err
		if b.fails++; probing || b.fails >= b.cfg.Failures {
			b.until = time.Now().Add(b.cfg.OpenFor)
			b.toLocked(breakerOpen)
		}
	case !failed && probing:
		if b.probes++; b.probes >= b.cfg.Probes {
			b.toLocked(breakerClosed)
		}
	case !failed && b.state == breakerClosed:
		b.fails = 0
	}
}

// unlock logs a change, outside of the lock: the log is the user's code.
func (b *breaker) unlock(was breakerState) {
	is, cause := b.state, b.last
	b.mu.Unlock()
	if is != was {
		b.logger.Warn("circuit breaker", "from", was.String(), "to", is.String(), "cause", cause)
	}
}

func (b *breaker) toLocked(s breakerState) {
	b.state, b.fails, b.probes, b.probing = s, 0, 0, false
	b.published.Store(&breakerSnapshot{s, b.until})
}

func (b *breaker) cause() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *breaker) current() breakerState {
	if b == nil {
		return breakerClosed
	}
	seen := b.published.Load()
	switch {
	case seen == nil:
		return breakerClosed
	case seen.state == breakerOpen && !time.Now().Before(seen.until):
		return breakerHalfOpen
	}
	return seen.state
}
