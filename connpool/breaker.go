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

// A breaker refuses calls to an endpoint that keeps failing: closed, open, and
// half-open, where one call at a time probes.
type breaker struct {
	cfg    Breaker
	logger *slog.Logger

	seen atomic.Pointer[sight] // the last change, for who only reads

	mu      sync.Mutex // guards what follows
	state   BreakerState
	fails   int
	probes  int // that succeeded in a row
	probing bool
	until   time.Time // when the next probe may go
	last    error
}

// A sight is a breaker's state, and until when an open one refuses.
type sight struct {
	state BreakerState
	until time.Time
}

func newBreaker(cfg Breaker, logger *slog.Logger) *breaker { return &breaker{cfg: cfg, logger: logger} }

// enter lets a call pass, as a probe or not, or says how long to stay away.
func (b *breaker) enter() (probing bool, wait time.Duration) {
	b.mu.Lock()
	defer b.unlock(b.state)
	switch b.state {
	case BreakerClosed:
		return false, 0
	case BreakerOpened:
		if wait = time.Until(b.until); wait > 0 {
			return false, wait
		}
		b.toLocked(BreakerHalfOpen)
	}
	if wait = time.Until(b.until); b.probing && wait > 0 {
		return false, wait
	}
	// A probe that has no outcome for so long, an upload say, is not waited for.
	b.probing, b.until = true, time.Now().Add(b.cfg.OpenFor)
	return true, 0
}

// refused takes what the pool itself said no to. Only an unreachable endpoint is
// news: a full queue or the end of the caller's context says nothing.
func (b *breaker) refused(err error, probing bool) {
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
	case failed && (probing || b.state == BreakerClosed):
		b.last = err
		if b.fails++; probing || b.fails >= b.cfg.Failures {
			b.until = time.Now().Add(b.cfg.OpenFor)
			b.toLocked(BreakerOpened)
		}
	case !failed && probing:
		if b.probes++; b.probes >= b.cfg.Probes {
			b.toLocked(BreakerClosed)
		}
	case !failed && b.state == BreakerClosed:
		b.fails = 0
	}
}

// unlock tells of a change, outside of the lock: the log is the user's code.
func (b *breaker) unlock(was BreakerState) {
	is, cause := b.state, b.last
	b.mu.Unlock()
	if is != was {
		b.logger.Warn("circuit breaker", "from", was.String(), "to", is.String(), "cause", cause)
	}
}

func (b *breaker) toLocked(s BreakerState) {
	b.state, b.fails, b.probes, b.probing = s, 0, 0, false
	b.seen.Store(&sight{s, b.until})
}

func (b *breaker) cause() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *breaker) current() BreakerState {
	if b == nil {
		return BreakerClosed
	}
	seen := b.seen.Load()
	switch {
	case seen == nil:
		return BreakerClosed
	case seen.state == BreakerOpened && !time.Now().Before(seen.until):
		return BreakerHalfOpen
	}
	return seen.state
}
