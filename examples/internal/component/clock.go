package component

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// fractionClock remembers the fraction and how long it was below 1. It is
// safe for concurrent use; the zero value stands at 1.
type fractionClock struct {
	mu    sync.Mutex
	below float64 // 1 - fraction
	since time.Time
	total time.Duration // below 1, without the time since since
}

// SetFraction follows the control plane.
func (f *fractionClock) SetFraction(fraction float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.below > 0 {
		f.total += now.Sub(f.since)
	}
	f.below, f.since = 1-min(fraction, 1), now
}

// fraction returns the fraction and for how long it was below 1 until now.
func (f *fractionClock) fraction() (fraction float64, throttled time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	throttled = f.total
	if f.below > 0 {
		throttled += time.Since(f.since)
	}
	return 1 - f.below, throttled
}

// peakLoad keeps the highest load that a throttler showed.
type peakLoad struct{ bits atomic.Uint64 }

const peakInterval = 50 * time.Millisecond

// watch looks every 50 ms until ctx ends: a load that matters lasts longer.
func (p *peakLoad) watch(ctx context.Context, t *flowcontrol.Throttler) {
	tick := time.NewTicker(peakInterval)
	defer tick.Stop()
	for {
		p.note(t.Load())
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *peakLoad) note(load float64) {
	for {
		before := p.bits.Load()
		if load <= math.Float64frombits(before) || p.bits.CompareAndSwap(before, math.Float64bits(load)) {
			return
		}
	}
}

func (p *peakLoad) load() float64 { return math.Float64frombits(p.bits.Load()) }
