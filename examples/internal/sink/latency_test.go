package sink_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// TestEndToEnd: from the source's reading to the file, and what is said when
// that is not known or cannot be true.
func TestEndToEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		entered func(now time.Time) int64
		want    time.Duration
	}{
		"three seconds on the way":     {func(now time.Time) int64 { return now.Add(-3 * time.Second).UnixNano() }, 5 * time.Second},
		"the source's clock is ahead":  {func(now time.Time) int64 { return now.Add(time.Hour).UnixNano() }, 2 * time.Second},
		"the source does not say when": {func(time.Time) int64 { return 0 }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakeProcessor{change: func(i *events.BatchInfo) { i.Entered = tc.entered(time.Now()) }}
				p.before = func(ctx context.Context, _ events.BatchInfo) error { // the stream stays open
					if p.asked.Add(1) > 3 {
						<-ctx.Done()
					}
					return ctx.Err()
				}
				cfg := config(t, p, first+99)
				cfg.Format = sink.JSONL // Parquet's codec keeps channels that a bubble may not touch
				cfg.Delay = sink.NewDelay(2 * time.Second)
				s, err := sink.New(cfg)
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx, nil) }()
				time.Sleep(3 * time.Second)
				require.Equal(t, 2*time.Second, s.Latency())
				require.Equal(t, tc.want, s.EndToEnd())
				time.Sleep(2 * time.Minute)
				require.Zero(t, s.EndToEnd(), "old news")
				cancel()
				<-done
			})
		})
	}
}
