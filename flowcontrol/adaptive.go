package flowcontrol

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// AdaptiveMode says what may change the message limit.
type AdaptiveMode uint8

// The modes of the adaptive limit. The zero mode is AdaptiveGuard.
const (
	// AdaptiveGuard keeps Config.Limit.Messages, and lowers it only while a
	// tenth or more of the work is released as Dropped: a limit that is far too
	// large serves nobody in time. It learns nothing from service times.
	AdaptiveGuard AdaptiveMode = iota
	// AdaptiveOn learns the limit from service times and from dropped work.
	AdaptiveOn
	// AdaptiveOff keeps Config.Limit.Messages whatever happens.
	AdaptiveOff
)

// AdaptiveConfig configures a message limit that follows the service time: the
// time from a permit to its release. It never looks at how long a stream
// lives, so it works on streams that never end.
type AdaptiveConfig struct {
	// Mode says what may change the limit. Zero means AdaptiveGuard.
	Mode AdaptiveMode
	// Min is the smallest limit that service times lead to; dropped work goes
	// below. Zero or negative means 4, or Max if that is less.
	Min int64
	// Max is the largest limit. Zero or negative means Config.Limit.Messages,
	// but 1000 where that is at its default or none.
	Max int64
	// Start is the first limit. Zero or negative means 20, within Min and Max.
	Start int64
	// Window is the shortest time between two changes of the limit. Zero or
	// negative means 100 ms; it may be 10 s at most.
	Window time.Duration
	// Tolerance is by how much queueing may lengthen the service time. Zero
	// means 1.5; it must lie in 1..2, because a tolerance of 2 with the probe
	// that halves the limit has no stable point.
	Tolerance float64
	// MaxHealthy is a service time that is always too long, whatever was
	// learned. Zero or negative: none.
	MaxHealthy time.Duration
}

func (a AdaptiveConfig) withDefaults(limit int64) AdaptiveConfig {
	if a.Max <= 0 {
		a.Max = 1000
		if limit > 0 && limit != DefaultMessages {
			a.Max = limit
		}
	}
	if a.Min <= 0 {
		a.Min = min(4, a.Max)
	}
	if a.Start <= 0 {
		a.Start = min(max(20, a.Min), a.Max)
	}
	if a.Window <= 0 {
		a.Window = 100 * time.Millisecond
	}
	if a.Tolerance == 0 {
		a.Tolerance = 1.5
	}
	return a
}

func (a AdaptiveConfig) validate(bad func(field string, value any, want string)) {
	if a.Mode > AdaptiveOff {
		bad("Adaptive.Mode", a.Mode, "AdaptiveGuard, AdaptiveOn or AdaptiveOff")
	}
	if a.Window > maxWindow {
		bad("Adaptive.Window", a.Window, fmt.Sprintf("at most %v", maxWindow))
	}
	if a.Max > MaxMessages {
		bad("Adaptive.Max", a.Max, fmt.Sprintf("at most %d", MaxMessages))
	}
	if a.Min > a.Max {
		bad("Adaptive.Min", a.Min, fmt.Sprintf("at most Adaptive.Max (%d)", a.Max))
	}
	if a.Start < a.Min || a.Start > a.Max {
		bad("Adaptive.Start", a.Start, fmt.Sprintf("within Adaptive.Min..Max (%d..%d)", a.Min, a.Max))
	}
	if !(a.Tolerance >= 1 && a.Tolerance < 2) {
		bad("Adaptive.Tolerance", a.Tolerance, "at least 1 and below 2")
	}
}

const (
	maxWindow      = 10 * time.Second
	windowSamples  = 25
	keptSamples    = 256
	baselineWindow = int64(30 * time.Second)
	baselineParts  = 30
	drainEvery     = 50
	drainFor       = 2
	slowWindows    = 3
	slowEvery      = 10
)

// adaptive learns the message limit. Each window gives one sample, the median
// service time, and one step: the limit follows the ratio of the best sample
// of the last 30 seconds to this one, plus the square root of itself as room
// to grow. A windowed minimum, never an average: an average learns the
// overload itself as normal.
type adaptive struct {
	limit  atomic.Int64
	flight *inflight

	mu       sync.Mutex
	cfg      AdaptiveConfig
	on       bool
	size     float64
	samples  [keptSamples]int64
	count    int
	began    int64
	drops    int     // dropped in this window
	floor    float64 // Min, and below it while work is dropped
	starting bool
	minima   [baselineParts]int64 // of the last 30 seconds
	part     int64
	windows  int
	draining int
	restore  float64
	probed   bool // drained since the start: the baseline can be believed
	slow     int  // windows in a row that were far slower than the baseline
}

// configure takes a new configuration; what was learned stays where it still fits.
func (a *adaptive) configure(cfg AdaptiveConfig) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fresh := !a.on
	a.cfg, a.on = cfg, cfg.Mode == AdaptiveOn
	a.floor = float64(cfg.Min)
	if fresh {
		a.size, a.starting = float64(cfg.Start), true
	}
	a.setLocked(a.size)
}

func (a *adaptive) setLocked(size float64) {
	a.size = min(max(size, a.floor), float64(a.cfg.Max))
	a.limit.Store(int64(math.Round(a.size)))
}

// finished takes one service time.
func (a *adaptive) finished(now, service int64, o Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.began == 0 {
		a.began = now
	}
	switch o {
	case Ignored:
		return
	case Dropped:
		a.drops++
	default:
		a.samples[a.count%keptSamples] = service
		a.count++
	}
	if now-a.began >= int64(a.cfg.Window) && (a.count >= windowSamples || a.drops > 0) {
		a.stepLocked(now)
	}
}

func (a *adaptive) stepLocked(now int64) {
	peak := float64(a.flight.takeRecent())
	drops, all, count := a.drops, a.drops+a.count, min(a.count, keptSamples)
	a.drops, a.count, a.began = 0, 0, now
	if drops > 0 {
		a.cutLocked(drops, all)
	} else {
		a.floor = min(a.floor*guardGrow+1, float64(a.cfg.Min))
	}
	if count == 0 {
		return
	}
	kept := a.samples[:count]
	slices.Sort(kept)
	s := float64(kept[count/2])
	base := a.learnLocked(now, int64(s))

	if a.draining > 0 {
		if a.draining--; a.draining == 0 {
			// With half of the limit, what is left is the service itself.
			clear(a.minima[:])
			a.learnLocked(now, int64(s))
			a.setLocked(a.restore)
		}
		return
	}
	if drops > 0 {
		return
	}
	g := min(max(a.cfg.Tolerance*base/s, 0.5), 1)
	if healthy := float64(a.cfg.MaxHealthy); healthy > 0 && s > healthy {
		g = 0.5
	}
	limited := peak >= 0.75*a.size
	if a.slow++; g > 0.75 {
		a.slow = 0
	}
	if a.windows++; limited && (!a.probed || a.windows >= drainEvery || a.slow >= slowWindows && a.windows >= slowEvery) {
		a.probed, a.slow, a.windows, a.draining, a.restore = true, 0, 0, drainFor, a.size
		a.setLocked(a.size * 0.5)
		return
	}
	if a.starting {
		if g < 1 {
			a.starting = false
		} else {
			if peak >= 0.9*a.size {
				a.setLocked(a.size * 1.5)
			}
			return
		}
	}
	next := 0.8*a.size + 0.2*(a.size*g+math.Sqrt(a.size))
	if next > a.size && peak < a.size/2 {
		return // the limit was not what held it back
	}
	a.setLocked(next)
}

// cutLocked lowers the limit for dropped work, once a window: by a tenth, and
// where it is a good part of all work, by half and below Min.
func (a *adaptive) cutLocked(drops, all int) {
	if drops < guardDrops || drops*10 < all {
		a.setLocked(a.size * 0.9)
		return
	}
	factor := 0.7
	if drops*2 > all {
		factor = 0.5
	}
	a.floor = max(1, min(a.floor, a.size)*factor)
	a.setLocked(a.size * factor)
	if a.draining > 0 {
		a.restore = a.size
	}
}

// learnLocked keeps the smallest sample of the last 30 seconds.
func (a *adaptive) learnLocked(now, s int64) float64 {
	part := now / (baselineWindow / baselineParts)
	for a.part < part-baselineParts {
		a.part = part - baselineParts
	}
	for a.part < part {
		a.part++
		a.minima[a.part%baselineParts] = 0
	}
	if m := &a.minima[part%baselineParts]; *m == 0 || s < *m {
		*m = s
	}
	base := s
	for _, m := range a.minima {
		if m != 0 && m < base {
			base = m
		}
	}
	return float64(base)
}
