package sink

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Delay makes the sink slow on purpose: it waits this long for every batch
// before it writes it. It can be changed while the sink runs, and a change
// counts at once, also for the batch that is being waited for.
//
// It is safe for concurrent use. The zero value is no delay.
type Delay struct {
	mu      sync.Mutex
	current time.Duration
	changed chan struct{} // closed and replaced by Set
}

// NewDelay returns a delay of d.
func NewDelay(d time.Duration) *Delay { return &Delay{current: d} }

// Set changes the delay. Below zero counts as none.
func (d *Delay) Set(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current = max(delay, 0)
	if d.changed != nil {
		close(d.changed)
	}
	d.changed = make(chan struct{})
}

// Get returns the delay.
func (d *Delay) Get() time.Duration {
	current, _ := d.get()
	return current
}

func (d *Delay) get() (time.Duration, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.current, d.changed
}

// Wait waits for the delay, until skip is closed, or until ctx ends.
func (d *Delay) Wait(ctx context.Context, skip <-chan struct{}) {
	began := time.Now()
	for {
		current, changed := d.get()
		left := current - time.Since(began)
		if left <= 0 {
			return
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-skip:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// ParseDelay reads a delay such as 50ms; 0 is none.
func ParseDelay(text string) (time.Duration, error) {
	delay, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil || delay < 0 {
		return 0, fmt.Errorf("delay %.40q is not accepted: want a duration of at least 0, such as 50ms", text)
	}
	return delay, nil
}

// Follow changes the delay to what the flag file says, and back to the delay of
// before when the file goes away. A file without text changes nothing: writing
// a file empties it first, and a look in between must not undo the delay. It
// looks every interval, until ctx ends.
func (d *Delay) Follow(ctx context.Context, path string, interval time.Duration, log *slog.Logger) {
	before := d.Get()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	last := ""
	for {
		data, err := os.ReadFile(path)
		switch text := strings.TrimSpace(string(data)); {
		case err != nil && last != "":
			last = ""
			d.Set(before)
			log.Info("the flag file is gone, the delay is the one of before", "file", path, "delay", before)
		case err == nil && text != "" && text != last:
			last = text
			if delay, err := ParseDelay(text); err != nil {
				log.Warn("the flag file is ignored", "file", path, "error", err)
			} else {
				d.Set(delay)
				log.Info("the flag file changed the delay", "file", path, "delay", delay)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
