package page

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// thousands writes a figure in at most five characters: 0, 7.5, 940, 2.4k, 13M.
func thousands(v float64) string {
	units := []string{"", "k", "M", "G", "T", "P"}
	i := 0
	for math.Abs(v) >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return short(v) + units[i]
}

func perSecond(v float64) string { return thousands(v) + "/s" }

// bytesPerSecond writes a rate of bytes, in units of 1000.
func bytesPerSecond(v float64) string {
	if v == 0 { // not measured, or nothing flows: the rate of events tells which
		return "–"
	}
	return thousands(v) + "B/s"
}

// span writes a duration with two digits that matter: 850 µs, 3.5 ms, 12 s, 4 min.
func span(d time.Duration) string {
	switch {
	case d <= 0:
		return "–"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + "\u00a0µs"
	case d < time.Second:
		return short(float64(d)/1e6) + "\u00a0ms"
	case d < 2*time.Minute:
		return short(d.Seconds()) + "\u00a0s"
	case d < 2*time.Hour:
		return short(d.Minutes()) + "\u00a0min"
	default:
		return short(d.Hours()) + "\u00a0h"
	}
}

// short writes one decimal below 10 and none above: two digits that matter.
func short(v float64) string {
	if v < 9.95 {
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// ago writes how long before now a moment was.
func ago(now, then time.Time) string {
	if then.IsZero() {
		return "never"
	}
	if d := now.Sub(then); d >= time.Second {
		return span(d) + " ago"
	}
	return "now"
}
