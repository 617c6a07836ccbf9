package alert

import (
	"math"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/monitor"
)

// past holds what the rules' rates are made of: the counters that they name, at
// each evaluation. All series share the evaluations' times, and a value is
// stored only when it changes, so that a counter at rest costs one entry.
type past struct {
	keep   time.Duration
	times  []time.Time
	first  int // the number of the evaluation times[0]
	series map[*monitor.Family]*kept
	// Two things that Prometheus has changed. The engine follows its present
	// version; the tests follow that of the promtool that judges them.
	closed  bool // before 3.0, a sample exactly Window old was inside
	eagerly bool // before 2.52, a counter was followed to its zero however far that was
}

// kept are the series of one family, as far back as its rules look.
type kept struct {
	window time.Duration
	series map[[monitor.MaxLabels]string]*series
}

type series struct {
	steps []step
	seen  int // the last evaluation with a sample
}

// step is a value from one evaluation on; stale says that there is none.
type step struct {
	from  int
	value float64
}

// stale is Prometheus' own marker: a NaN that no arithmetic gives. Any other NaN
// is a value.
var stale = math.Float64frombits(0x7ff0000000000002)

func (s step) is(value float64) bool { return math.Float64bits(s.value) == math.Float64bits(value) }
func (s step) absent() bool          { return s.is(stale) }

// record takes one evaluation's values. What no window reaches any more is dropped,
// but for the step that was in force when the window began. A series without a
// value is marked as stale, as Prometheus marks one that a scrape misses, and is
// forgotten when nothing else is left of it.
func (p *past) record(now time.Time, read reader) {
	if len(p.series) == 0 {
		return
	}
	old := 0
	for old < len(p.times) && now.Sub(p.times[old]) > p.keep {
		old++
	}
	p.times = append(slices.Delete(p.times, 0, old), now)
	p.first += old
	current := p.first + len(p.times) - 1
	for family, k := range p.series {
		all, first := k.series, p.first
		for first < current && now.Sub(p.times[first-p.first]) > k.window {
			first++
		}
		read(family, func(labels [monitor.MaxLabels]string, value float64) {
			s := all[labels]
			if s == nil {
				s = &series{}
				all[labels] = s
			}
			s.seen = current
			if n := len(s.steps); n == 0 || !s.steps[n-1].is(value) {
				s.steps = append(s.steps, step{from: current, value: value})
			}
		})
		for labels, s := range all {
			if n := len(s.steps); s.seen != current && !s.steps[n-1].absent() {
				s.steps = append(s.steps, step{from: current, value: stale})
			}
			gone := 0
			for gone+1 < len(s.steps) && s.steps[gone+1].from <= first {
				gone++
			}
			s.steps = slices.Delete(s.steps, 0, gone)
			if len(s.steps) == 1 && s.steps[0].absent() {
				delete(all, labels)
			}
		}
	}
}

// increase is Prometheus' function of that name: the growth between the samples
// in the window, resets counted, extrapolated to the window's ends. Per is what
// it is divided by, 1 or the window in seconds for a rate. The operations come in
// the order of extrapolatedRate in promql/functions.go: in another one a
// threshold that is met exactly would be missed by the last bit.
func (p *past) increase(s *series, now time.Time, window time.Duration, per float64) (float64, bool) {
	begin := now.Add(-window)
	from := p.first
	for i := range p.times {
		if p.times[i].After(begin) || p.closed && p.times[i].Equal(begin) {
			break
		}
		from = p.first + i + 1
	}
	end := p.first + len(p.times) // exclusive
	samples, lost := 0, 0.0       // lost to resets
	var firstAt, lastAt int
	var firstValue, last float64
	for i, st := range s.steps {
		stop := end
		if i+1 < len(s.steps) {
			stop = s.steps[i+1].from
		}
		start := max(st.from, from)
		if st.absent() || start >= stop {
			continue
		}
		if samples == 0 {
			firstAt, firstValue = start, st.value
		} else if st.value < last {
			lost += last
		}
		samples += stop - start
		last, lastAt = st.value, stop-1
	}
	if samples < 2 {
		return 0, false
	}
	firstTime, lastTime := p.times[firstAt-p.first], p.times[lastAt-p.first]
	growth := last - firstValue + lost
	sampled := seconds(lastTime.Sub(firstTime))
	average := sampled / float64(samples-1)
	toStart, toEnd := seconds(firstTime.Sub(begin)), seconds(now.Sub(lastTime))
	toZero := math.Inf(1) // a counter does not come from below 0
	if growth > 0 && firstValue >= 0 {
		toZero = sampled * (firstValue / growth)
	}
	if p.eagerly {
		toStart = min(toStart, toZero)
	}
	if toStart >= average*1.1 {
		toStart = average / 2
	}
	toStart = min(toStart, toZero)
	if toEnd >= average*1.1 {
		toEnd = average / 2
	}
	return growth * ((sampled + toStart + toEnd) / sampled / per), true
}

// seconds rounds once, as Prometheus does; Duration.Seconds adds two parts.
func seconds(d time.Duration) float64 { return float64(d) / float64(time.Second) }
