package flowcontrol

import (
	"math"
	"slices"
	"time"
)

const (
	windowSamples  = 25
	keptSamples    = 256
	baselineWindow = int64(30 * time.Second)
	baselineParts  = 30
	drainEvery     = 50
	drainFor       = 2
	slowWindows    = 3
	slowEvery      = 10

	// guardWindow is the shortest time between two steps for dropped work, and
	// guardLongest is how long a few drops are remembered.
	guardWindow  = int64(100 * time.Millisecond)
	guardLongest = int64(time.Second)
	// guardDrops is how many drops a window needs before they mean anything.
	guardDrops = 10
	// badShare is the share of dropped work from which the limit is cut. Below,
	// drops neither cut nor stop growth: they are some callers' own.
	badShare = 0.10
)

// A learner sets the message limit in force, from the ends of work. In the mode
// AdaptiveGuard only dropped work counts, in AdaptiveOn the service times do
// too: each window gives one sample, the mean service time without the tenth at
// either end, and one step: the limit follows the ratio of the best sample of the
// last 30 seconds to this one, plus the square root of itself as room to grow,
// after Netflix's Gradient2 (github.com/Netflix/concurrency-limits). The baseline is a windowed minimum,
// never an average: an average learns the overload itself as normal.
//
// It is guarded by the gate's lock.
type learner struct {
	cfg  AdaptiveConfig
	most float64 // the limit when all is well: Adaptive.Max or Limit.Messages
	size float64
	// ceiling is the size at the last cut. Growth is fast up to some way below it
	// and slow around it, as in CUBIC (RFC 9438); 0 = none.
	ceiling float64
	// recover is the size that an outage has cost, until service times say that
	// it is too much; 0 = none. Used with AdaptiveOn.
	recover float64

	ended ends
	lead  *tenant // with the most dropped work of this window
	began int64   // of the window of drops

	samples  [keptSamples]int64
	count    int
	sampled  int64 // when the window of samples began
	peak     int64 // the most in flight in it
	starting bool
	minima   [baselineParts]float64 // of the last 30 seconds
	part     int64
	windows  int
	draining int
	restore  float64
	probed   bool // drained since the start: the baseline can be believed
	slow     int  // windows in a row that were far slower than the baseline
}

// Ends add up ended work of one window. Work is weighed by how long it took,
// counted in ends of others, which needs no clock: so a caller that fails in a
// tight loop weighs as much as the room that it holds, not as often as it fails.
type ends struct {
	window       int64 // which window the counts are of
	all, dropped float64
	drops        int
	limited      bool // somebody waited, or was rejected for room
}

func (e *ends) add(window int64, weight float64, dropped bool) {
	if e.window != window {
		*e = ends{window: window}
	}
	e.all += weight
	if dropped {
		e.dropped += weight
		e.drops++
	}
}

// configure takes new settings; what was learned stays where it still fits.
func (l *learner) configure(cfg AdaptiveConfig, limit int64) {
	fresh := l.cfg != cfg || l.most == 0
	switched := l.cfg.Mode != cfg.Mode || l.most == 0
	lowered := l.most > 0 && l.size < l.most
	l.cfg = cfg
	switch {
	case cfg.Mode == AdaptiveOn:
		l.most = float64(cfg.Max)
		if switched {
			l.size, l.starting, l.ceiling = float64(cfg.Start), true, 0
		}
		if fresh {
			l.size = max(l.size, float64(cfg.Min))
		}
	case limit == unlimited || cfg.Mode == AdaptiveOff:
		l.most = float64(limit)
		l.size, l.ceiling = l.most, 0
	default:
		l.most = float64(limit)
		if switched || !lowered {
			l.size, l.ceiling = l.most, 0
		}
	}
	l.size = min(l.size, l.most)
}

// limit is the message limit in force.
func (l *learner) limit(configured int64) int64 {
	if l.cfg.Mode == AdaptiveOff || l.cfg.Mode == AdaptiveGuard && l.size >= l.most {
		return configured
	}
	return max(1, int64(math.Round(l.size)))
}

// timed reports whether each permit needs the time of its start.
func (l *learner) timed() bool { return l.cfg.Mode == AdaptiveOn }

// needsClock reports whether an end with that outcome has to know the time.
func (l *learner) needsClock(o Outcome) bool {
	switch l.cfg.Mode {
	case AdaptiveOff:
		return false
	case AdaptiveOn:
		return true
	}
	return o == Dropped || l.size < l.most
}

// passed notes work that ended well, where no clock was needed.
func (l *learner) passed(weight float64) {
	if l.began != 0 {
		l.ended.add(l.began, weight, false)
	}
}

// finished learns from one end of work. service is its time, at least 1;
// pressed says that the limit holds work back. It reports whether the limit
// may have changed.
func (l *learner) finished(now, service int64, weight float64, o Outcome, who *tenant, pressed bool) bool {
	if o == Ignored || l.cfg.Mode == AdaptiveOff || l.cfg.Mode == AdaptiveGuard && l.most == float64(unlimited) {
		return false
	}
	if l.began == 0 {
		l.began, l.sampled = now, now
	}
	l.ended.add(l.began, weight, o == Dropped)
	l.ended.limited = l.ended.limited || pressed
	if who != nil {
		who.ended.add(l.began, weight, o == Dropped)
		if l.lead == nil || l.lead.ended.window != l.began || who.ended.dropped > l.lead.ended.dropped {
			l.lead = who
		}
	}
	if l.cfg.Mode == AdaptiveOn && o == Success {
		l.samples[l.count%keptSamples] = max(service, 1)
		l.count++
	}
	before := l.size
	l.stepForDrops(now)
	if l.cfg.Mode == AdaptiveOn && now-l.sampled >= int64(l.cfg.Window) && l.count >= windowSamples {
		l.stepForTimes(now)
	}
	return l.size != before
}

// stepForDrops cuts the limit where a good part of the work is dropped, and lets
// it grow again afterwards.
func (l *learner) stepForDrops(now int64) {
	elapsed := now - l.began
	if elapsed < guardWindow {
		return
	}
	enough := l.ended.drops >= guardDrops
	if !enough && l.ended.drops > 0 && elapsed < guardLongest && l.droppedShare() >= badShare {
		return // too few to judge yet
	}
	share, limited := l.droppedShare(), l.ended.limited
	l.began, l.lead = now, nil
	if l.cfg.Mode == AdaptiveGuard {
		defer func() { l.peak = 0 }()
	}
	switch {
	case enough && share >= badShare:
		l.cut(share)
	case l.size < l.floor() || l.cfg.Mode == AdaptiveGuard && l.size < l.most:
		if limited && share < badShare {
			l.grow(min(float64(elapsed)/float64(guardWindow), 10))
		}
	}
}

// floor is where growth after a cut is left to the service times.
func (l *learner) floor() float64 {
	if l.cfg.Mode == AdaptiveOn {
		return max(float64(l.cfg.Min), 0.8*l.recover)
	}
	return l.most
}

// droppedShare is the share of the work of this window that was dropped. Where
// tenants are told apart and the others have no such trouble, one tenant's
// drops are its own.
func (l *learner) droppedShare() float64 {
	if l.ended.all == 0 {
		return 0
	}
	share := l.ended.dropped / l.ended.all
	if l.lead != nil && l.lead.ended.window == l.began {
		if others := l.ended.all - l.lead.ended.all; others > 0 {
			share = min(share, (l.ended.dropped-l.lead.ended.dropped)/others)
		}
	}
	return share
}

// cut lowers the limit by a third, or by half where most work is dropped.
func (l *learner) cut(share float64) {
	factor := 0.7
	if share > 0.5 {
		factor = 0.5
	}
	// A limit far above what was in flight is no limit: begin at what was.
	size := l.size
	if l.peak > 0 {
		size = min(size, float64(l.peak)+1)
	}
	l.ceiling, l.recover = size, max(size, l.recover)
	l.size = max(1, size*factor)
	l.peak, l.draining = 0, 0
	// What the outage cost is won back as fast as a new service finds its limit.
	l.starting = true
}

// grow raises the limit after a cut, by as many steps of 100 ms as have passed:
// by a fifth each up to four fifths of the size that was cut, slowly around
// that size, and by a fifth again beyond.
func (l *learner) grow(steps float64) {
	for ; steps > 0; steps-- {
		part := min(steps, 1)
		switch {
		case l.size < 0.8*l.ceiling:
			l.size = min(l.size*(1+0.2*part)+part, max(0.8*l.ceiling, l.size+part))
		case l.size < 1.05*l.ceiling:
			l.size += max(0.01*l.ceiling, 0.2) * part
		default:
			l.size, l.ceiling = l.size*(1+0.2*part)+part, 0
		}
	}
	if l.size >= l.most {
		l.size, l.ceiling = l.most, 0
	}
}

// stepForTimes takes the window's sample.
func (l *learner) stepForTimes(now int64) {
	peak := float64(l.peak)
	kept := l.samples[:min(l.count, keptSamples)]
	l.count, l.sampled, l.peak = 0, now, 0
	slices.Sort(kept)
	s, base := l.compare(now, kept)

	if l.draining > 0 {
		if l.draining--; l.draining == 0 {
			// With half of the limit, what is left is the service itself.
			clear(l.minima[:])
			l.compare(now, kept)
			l.setSize(l.restore)
		}
		return
	}
	g := min(max(l.cfg.Tolerance*base/s, 0.5), 1)
	if healthy := float64(l.cfg.MaxHealthy); healthy > 0 && s > healthy {
		g = 0.5
	}
	limited := peak >= 0.75*l.size
	if l.slow++; g > 0.75 {
		l.slow = 0
	}
	if l.windows++; limited && (!l.probed || l.windows >= drainEvery || l.slow >= slowWindows && l.windows >= slowEvery) {
		l.probed, l.slow, l.windows, l.draining, l.restore = true, 0, 0, drainFor, l.size
		l.setSize(l.size * 0.5)
		return
	}
	if l.starting {
		if g < 1 {
			l.starting, l.recover = false, 0
		} else {
			if peak >= 0.9*l.size {
				l.setSize(l.size * 1.5)
			}
			return
		}
	}
	next := 0.8*l.size + 0.2*(l.size*g+math.Sqrt(l.size))
	if next > l.size && peak < l.size/2 {
		return // the limit was not what held it back
	}
	l.setSize(next)
}

// setSize changes the limit for service times, which lead no lower than Min,
// but leave what dropped work has cut lower still.
func (l *learner) setSize(size float64) {
	l.size = min(max(size, min(float64(l.cfg.Min), l.size)), l.most)
}

// compare returns the window's sample and the baseline to hold it against: the
// smallest sample of the last 30 seconds. The sample is taken low by its
// standard error, and the baseline's is taken high by as much, so that chance
// does not look like queueing.
func (l *learner) compare(now int64, sorted []int64) (s, base float64) {
	mean, deviation := trimmed(sorted)
	low, high := max(mean-deviation, 1), mean+deviation
	part := now / (baselineWindow / baselineParts)
	l.part = max(l.part, part-baselineParts)
	for l.part < part {
		l.part++
		l.minima[l.part%baselineParts] = 0
	}
	if m := &l.minima[part%baselineParts]; *m == 0 || high < *m {
		*m = high
	}
	base = high
	for _, m := range l.minima {
		if m != 0 && m < base {
			base = m
		}
	}
	return low, base
}

// trimmed returns the mean of sorted without its lowest and highest tenth, and
// the standard error of that. A median would do for work of one kind; where half
// of the work takes a millisecond and half a hundred, the median of a window
// flips between the two.
func trimmed(sorted []int64) (mean, deviation float64) {
	cut := len(sorted) / 10
	kept := sorted[cut : len(sorted)-cut]
	n := float64(len(kept))
	for _, v := range kept {
		mean += float64(v) / n
	}
	for _, v := range kept {
		deviation += (float64(v) - mean) * (float64(v) - mean) / n
	}
	return mean, math.Sqrt(deviation / n)
}
