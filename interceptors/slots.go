package interceptors

import "time"

// slots counts streams against a limit, and estimates when one of them ends:
// what a caller that finds none free is told. Its owner's mutex guards it.
type slots struct {
	n      int64
	starts float64       // sum of the starts of the open streams, in seconds from the epoch
	hold   time.Duration // moving average of how long streams stay open; 0 until one has ended
}

const maxFirstHint = 5 * time.Second

// holdWeight is the weight of the newest stream in the average.
const holdWeight = 8

func (s *slots) take(start time.Duration) {
	s.n++
	s.starts += start.Seconds()
}

// release frees a slot. A stream that was rejected further on says nothing about
// how long the others stay: served is false for it.
func (s *slots) release(start, now time.Duration, served bool) {
	s.n--
	s.starts -= start.Seconds()
	if s.n == 0 {
		s.starts = 0 // no rounding errors add up
	}
	switch held := max(now-start, 1); {
	case !served:
	case s.hold == 0:
		s.hold = held
	default:
		s.hold += (held - s.hold) / holdWeight
	}
}

// hint estimates after how long one of the open streams has ended: what is left
// of the usual time. Streams that have already been open for longer than usual
// are expected to stay for as long again. Before the first one has ended nothing
// is known, and a caller with a deadline is asked to wait a sixth of what
// remains until it, five seconds at most, so that its few attempts do not all
// fall into the first moment.
func (s *slots) hint(now, remaining time.Duration) time.Duration {
	if s.n == 0 {
		return 0
	}
	age := max(now-time.Duration(s.starts/float64(s.n)*float64(time.Second)), 0)
	switch {
	case s.hold == 0:
		return max(age, min(remaining/6, maxFirstHint))
	case age >= s.hold:
		return age
	default:
		return s.hold - age
	}
}

// peakWindow is over how long a peak is kept, at least; at most twice as long.
const peakWindow = 10 * time.Second

// A peak is the highest value of the last 10 to 20 seconds. Reading it changes
// nothing. Its owner's mutex guards it.
type peak struct {
	since         time.Duration // start of the current window
	current, last int64
}

// note records that the value was n until now, or is from now on.
func (p *peak) note(now time.Duration, n int64) {
	switch elapsed := now - p.since; {
	case elapsed >= 2*peakWindow:
		p.since, p.current, p.last = now, 0, 0
	case elapsed >= peakWindow:
		p.since, p.current, p.last = p.since+peakWindow, 0, p.current
	}
	p.current = max(p.current, n)
}

// read returns the peak, where n is the value now.
func (p *peak) read(now time.Duration, n int64) int64 {
	q := *p
	q.note(now, n)
	return max(q.current, q.last)
}
