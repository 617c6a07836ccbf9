package sink_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// A change of the delay counts at once, also for who waits already.
func TestDelayChangesLive(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(d *sink.Delay, skip chan struct{}, stop func()) // after 10 s of an hour
		want   time.Duration
	}{
		"longer":  {func(d *sink.Delay, _ chan struct{}, _ func()) { d.Set(2 * time.Hour) }, 2 * time.Hour},
		"shorter": {func(d *sink.Delay, _ chan struct{}, _ func()) { d.Set(20 * time.Second) }, 20 * time.Second},
		"none":    {func(d *sink.Delay, _ chan struct{}, _ func()) { d.Set(0) }, 10 * time.Second},
		"below 0": {func(d *sink.Delay, _ chan struct{}, _ func()) { d.Set(-time.Second) }, 10 * time.Second},
		"skipped": {func(_ *sink.Delay, skip chan struct{}, _ func()) { close(skip) }, 10 * time.Second},
		"stopped": {func(_ *sink.Delay, _ chan struct{}, stop func()) { stop() }, 10 * time.Second},
		"nothing": {func(*sink.Delay, chan struct{}, func()) {}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				d, skip, began := sink.NewDelay(time.Hour), make(chan struct{}), time.Now()
				go func() {
					time.Sleep(10 * time.Second)
					tc.change(d, skip, stop)
				}()
				d.Wait(ctx, skip)
				require.Equal(t, tc.want, time.Since(began))
			})
		})
	}
}

// The flag file sets the delay while it is there. Nonsense in it is ignored, and
// so is a file without text: whoever writes it has emptied it and not yet
// written, or the follower looked in between.
func TestDelayFollowsAFlagFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sink-delay")
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		d := sink.NewDelay(50 * time.Millisecond)
		go d.Follow(ctx, path, time.Second, slog.New(slog.NewTextHandler(io.Discard, nil)))
		const gone = "gone"
		for _, step := range []struct {
			text string
			want time.Duration
		}{
			{gone, 50 * time.Millisecond},
			{"0s\n", 0},
			{"1s", time.Second},
			{"", time.Second},
			{"soon", time.Second},
			{"\n", time.Second},
			{gone, 50 * time.Millisecond},
			{"1s", time.Second},
		} {
			if step.text == gone {
				require.NoError(t, os.RemoveAll(path))
			} else {
				require.NoError(t, os.WriteFile(path, []byte(step.text), 0o644))
			}
			time.Sleep(2 * time.Second)
			require.Equal(t, step.want, d.Get(), "%q", step.text)
		}
		stop()
		synctest.Wait()
	})
}
