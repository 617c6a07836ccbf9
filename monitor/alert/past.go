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
	// closed counts a sample exactly Window old as inside, as Prometheus did
	// before version 3.
	closed bool
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

// step is a value from one evaluation on; NaN says that there is none.
type step struct {
	from  int
	value float64
}

func (s step) absent() bool { return math.IsNaN(s.value) }

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
			if n := len(s.steps); n == 0 || s.steps[n-1].absent() || s.steps[n-1].value != value {
				s.steps = append(s.steps, step{from: current, value: value})
			}
		})
		for labels, s := range all {
			if n := len(s.steps); s.seen != current && !s.steps[n-1].absent() {
				s.steps = append(s.steps, step{from: current, value: math.NaN()})
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
// in the window, resets counted, extrapolated to the window's ends.
func (p *past) increase(s *series, now time.Time, window time.Duration) (float64, bool) {
	begin := now.Add(-window)
	from := p.first
	for i := range p.times {
		if p.times[i].After(begin) || p.closed && p.times[i].Equal(begin) {
			break
		}
		from = p.first + i + 1
	}
	end := p.first + len(p.times) // exclusive
	samples, growth := 0, 0.0
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
			growth += st.value
		} else {
			growth += st.value - last
		}
		samples += stop - start
		last, lastAt = st.value, stop-1
	}
	if samples < 2 {
		return 0, false
	}
	firstTime, lastTime := p.times[firstAt-p.first], p.times[lastAt-p.first]
	sampled := lastTime.Sub(firstTime).Seconds()
	average := sampled / float64(samples-1)
	toStart, toEnd := firstTime.Sub(begin).Seconds(), now.Sub(lastTime).Seconds()
	if toStart >= average*1.1 {
		toStart = average / 2
	}
	if growth > 0 && firstValue >= 0 { // a counter does not come from below 0
		toStart = min(toStart, sampled*firstValue/growth)
	}
	if toEnd >= average*1.1 {
		toEnd = average / 2
	}
	return growth * (sampled + toStart + toEnd) / sampled, true
}
