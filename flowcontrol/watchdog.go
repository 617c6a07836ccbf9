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
	epoch atomic.Uint64
	mu    sync.Mutex
	times [epochs]int64 // when the latest epochs began
}

const (
	epochMask = 1<<headBits - 1
	epochs    = 1024 // whose times are kept; what is older counts as the oldest
	epochStep = int64(time.Second)
)

// mark is what a slot that is taken now carries, as the low bits of its word.
func (d *watchdog) mark() uint64 { return d.epoch.Load()<<stateBits | held }

// scan counts the held permits that are older than age.
func (d *watchdog) scan(f *inflight, now, age int64) (overdue int, oldest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	epoch := d.epoch.Load()
	for s := range f.slots {
		word := s.word.Load()
		if word&stateMask != held {
			continue
		}
		ago := (epoch - word>>stateBits) & epochMask
		if ago == 0 {
			continue // it began after the latest snapshot
		}
		if ago > epochs { // as the epochs go round, it must not look young again
			ago = epochs
			s.word.CompareAndSwap(word, word>>genShift<<genShift|(epoch-epochs)&epochMask<<stateBits|held)
		}
		// It began in an epoch that ended when the next began.
		old := now - d.times[(epoch-ago+1)%epochs]
		oldest = max(oldest, time.Duration(old))
		if old >= age {
			overdue++
		}
	}
	if now-d.times[epoch%epochs] >= max(min(epochStep, age/10), 1) {
		epoch = (epoch + 1) & epochMask
		d.times[epoch%epochs] = now
		d.epoch.Store(epoch)
	}
	return overdue, oldest
}
