// Package rate turns running counts into rates, over one window for all who show
// one: figures of the same thing at the same moment then agree, wherever they
// are read.
package rate

import "time"

// Window is the time over which a rate is taken.
const Window = 5 * time.Second

const (
	spacing  = time.Second            // between two samples
	shortest = 200 * time.Millisecond // over which a rate means something
)

// A Meter is the growth of one counter per second over the last [Window], or
// since the sample before it where nobody asked for longer. The zero value has
// seen nothing; one goroutine at a time may use it.
type Meter struct {
	samples [2 + Window/spacing]sample // the oldest first
	n       int
	rate    float64
}

type sample struct {
	at    time.Time
	total float64
}

// Update takes the counter's value now and returns its rate. A counter that has
// fallen has begun anew: the rate stays until the next sample.
func (m *Meter) Update(now time.Time, total float64) float64 {
	if m.n > 0 && total < m.samples[m.n-1].total {
		m.n = 0
	}
	for m.n > 1 && now.Sub(m.samples[1].at) >= Window {
		m.n = copy(m.samples[:], m.samples[1:m.n])
	}
	if m.n == 0 || m.n < len(m.samples) && now.Sub(m.samples[m.n-1].at) >= spacing {
		m.samples[m.n] = sample{now, total}
		m.n++
	}
	if elapsed := now.Sub(m.samples[0].at); elapsed >= shortest {
		m.rate = (total - m.samples[0].total) / elapsed.Seconds()
	}
	return m.rate
}
