package flowcontrol

import (
	"sync"
	"sync/atomic"
	"time"
)

// A watchdog tells the age of permits without reading a clock for each: a
// permit carries the number of the latest snapshot, and snapshots know their
// times.
type watchdog struct {
	epoch atomic.Uint32
	mu    sync.Mutex
	times [epochs]int64 // when the latest epochs began
}

const (
	epochBits = 24
	epochMask = 1<<epochBits - 1
	epochs    = 1024 // whose times are kept; what is older counts as the oldest
	epochStep = int64(time.Second)
)

// begin notes that the generation is held.
func (d *watchdog) begin(s *slot, gen uint64) {
	s.since.Store(gen<<epochBits | uint64(d.epoch.Load()))
}

// scan counts the held permits that are older than age.
func (d *watchdog) scan(f *inflight, now, age int64) (overdue int, oldest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	epoch := d.epoch.Load()
	if chunks := f.chunks.Load(); chunks != nil {
		for _, chunk := range *chunks {
			for i := range chunk {
				s := &chunk[i]
				since := s.since.Load()
				if since == 0 || since>>epochBits != s.word.Load()>>headBits&(1<<(64-epochBits)-1) {
					continue
				}
				ago := (uint64(epoch) - since) & epochMask
				if ago == 0 {
					continue // it began after the latest snapshot
				}
				// It began in an epoch that ended when the next began.
				old := now - d.times[(uint64(epoch)-min(ago, epochs)+1)%epochs]
				oldest = max(oldest, time.Duration(old))
				if old >= age {
					overdue++
				}
			}
		}
	}
	if now-d.times[epoch%epochs] >= max(min(epochStep, age/10), 1) {
		epoch = (epoch + 1) & epochMask
		d.times[epoch%epochs] = now
		d.epoch.Store(epoch)
	}
	return overdue, oldest
}
