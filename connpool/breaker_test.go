package connpool

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// handlerFunc is a user's log handler, which may do anything: also call the pool.
type handlerFunc func(slog.Record)

func (handlerFunc) Enabled(context.Context, slog.Level) bool { return true }

func (h handlerFunc) Handle(_ context.Context, r slog.Record) error { h(r); return nil }

func (h handlerFunc) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h handlerFunc) WithGroup(string) slog.Handler { return h }

func TestBreakerLogsOutsideItsLock(t *testing.T) {
	var b *breaker
	var told []string
	b = newBreaker(Breaker{Failures: 1, OpenFor: time.Nanosecond, Probes: 1, IsFailure: func(error) bool { return true }},
		slog.New(handlerFunc(func(r slog.Record) {
			require.True(t, b.mu.TryLock())
			b.mu.Unlock()
			r.Attrs(func(a slog.Attr) bool {
				told = append(told, a.String())
				return true
			})
		})))
	b.done(errors.New("down"), false)
	probing, _ := b.enter()
	require.True(t, probing)
	b.done(nil, true)
	require.Equal(t, []string{
		"from=closed", "to=open", "cause=down",
		"from=open", "to=half_open", "cause=down",
		"from=half_open", "to=closed", "cause=down",
	}, told)
}
