package main

import (
	"slices"
	"time"
)

// within are the answers to requests that were due in from..to.
func (r *result) within(from, to time.Duration) (in []answered) {
	for _, a := range r.answers {
		if a.due >= from && a.due < to {
			in = append(in, a)
		}
	}
	return in
}

// quality is goodput, where possible is the capacity of that time, and the p99 of
// what was not rejected, in milliseconds.
func (r *result) quality(from, to time.Duration, possible float64) (goodput, p99 float64) {
	in := r.within(from, to)
	var took []time.Duration
	n := 0
	for _, a := range in {
		if a.end == good {
			n++
		}
		if a.end != rejected {
			took = append(took, a.took)
		}
	}
	if len(took) == 0 {
		return 0, 0
	}
	slices.Sort(took)
	return float64(n) / min(float64(len(in)), possible*(to-from).Seconds()), ms(took[len(took)*99/100])
}

func (r *result) measuredFrom() time.Duration { return r.scenario.lasts() - r.scenario.measured }

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// steady is goodput, p99, and the server's CPU time for each request offered, in
// microseconds.
func steady(r *result) []float64 {
	from, to := r.measuredFrom(), r.scenario.lasts()
	goodput, p99 := r.quality(from, to, r.scenario.capacity())
	used := float64(r.final.CPU-r.warm.CPU) / 1e3 / float64(max(1, len(r.within(from, to))))
	return []float64{goodput, p99, used}
}

// doubling is goodput while it lasts, in its first second, in the first after
// it, and p99 while it lasts.
func doubling(l lengths) func(*result) []float64 {
	return func(r *result) []float64 {
		from, to := l.warm, l.warm+l.burst
		in, p99 := r.quality(from, to, r.scenario.capacity()/2)
		first, _ := r.quality(from, min(to, from+time.Second), r.scenario.capacity()/2)
		after, _ := r.quality(to, min(to+time.Second, r.scenario.lasts()), r.scenario.capacity())
		return []float64{in, first, after, p99}
	}
}

// recovery is how long after the burst, in milliseconds, a quarter of a second
// begins in which 95 of 100 requests are answered in time.
func recovery(r *result) []float64 {
	from, to := r.measuredFrom(), r.scenario.lasts()
	const step, window = 50 * time.Millisecond, 250 * time.Millisecond
	at := from
	for ; at+window <= to; at += step {
		in := r.within(at, at+window)
		n := 0
		for _, a := range in {
			if a.end == good {
				n++
			}
		}
		if n*100 >= len(in)*95 {
			break
		}
	}
	return []float64{ms(at - from)}
}

// fairness is Jain's index over what each client got of its max-min fair share,
// and goodput and p99 of all.
func fairness(r *result) []float64 {
	from, to := r.measuredFrom(), r.scenario.lasts()
	got := make([]float64, len(r.scenario.shares))
	for _, a := range r.within(from, to) {
		if a.end == good {
			got[a.client]++
		}
	}
	fair := []float64{0.4, 0.2, 0.2, 0.2} // three want less than a quarter, so the fourth may have the rest
	var sum, squares float64
	for i := range got {
		x := got[i] / fair[i]
		sum += x
		squares += x * x
	}
	goodput, p99 := r.quality(from, to, r.scenario.capacity())
	if squares == 0 {
		return []float64{0, goodput, p99}
	}
	return []float64{sum * sum / (float64(len(got)) * squares), goodput, p99}
}

// waste is goodput, p99, and the units of work of the first stage for each
// request that ended well. What was under way at the beginning counts against it.
func waste(r *result) []float64 {
	from, to := r.measuredFrom(), r.scenario.lasts()
	goodput, p99 := r.quality(from, to, r.scenario.capacity())
	n := 0
	for _, a := range r.within(from, to) {
		if a.end == good {
			n++
		}
	}
	return []float64{goodput, p99, float64(r.final.Worked-r.warm.Worked) / float64(max(1, n))}
}

// medians takes the median of each figure over the runs.
func medians(runs [][]float64) []float64 {
	out := make([]float64, len(runs[0]))
	for i := range out {
		column := make([]float64, len(runs))
		for j, run := range runs {
			column[j] = run[i]
		}
		slices.Sort(column)
		out[i] = column[len(column)/2]
	}
	return out
}
