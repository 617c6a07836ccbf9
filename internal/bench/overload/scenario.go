package main

import (
	"fmt"
	"time"
)

const (
	slots    = 8
	hold     = 20 * time.Millisecond
	deadline = 200 * time.Millisecond
	capacity = float64(slots) / 0.020 // a second
)

// A phase is a time of steady load.
type phase struct {
	lasts time.Duration
	load  float64 // in capacities
	hold  time.Duration
}

// A scenario is a row of the table.
type scenario struct {
	slow     int // stretches service time and deadline, and so divides the capacity
	name     string
	phases   []phase
	measured time.Duration // of its end; the rest warms up
	shares   []float64     // of the load, by client
	stages   int
	figures  func(*result) []float64
	format   string
}

func (s scenario) lasts() (d time.Duration) {
	for _, p := range s.phases {
		d += p.lasts
	}
	return d
}

func (s scenario) capacity() float64 { return capacity / float64(s.slow) }

func (s scenario) deadline() time.Duration { return deadline * time.Duration(s.slow) }

func (s scenario) controls() []control {
	if s.stages == 2 {
		return twoStages
	}
	return oneStage
}

// lengths are how long the parts of a scenario last, and its slow.
type lengths struct {
	warm, measured, minute, burst time.Duration
	slow                          int
}

func scenarios(l lengths) (all []scenario) {
	even := []float64{0.25, 0.25, 0.25, 0.25}
	add := func(s scenario) {
		for i := range s.phases {
			if s.phases[i].hold == 0 {
				s.phases[i].hold = hold
			}
			s.phases[i].hold *= time.Duration(l.slow)
		}
		s.slow = l.slow
		if s.shares == nil {
			s.shares = even
		}
		all = append(all, s)
	}
	for _, load := range []float64{0.5, 1, 1.5, 2, 4} {
		add(scenario{
			name: fmt.Sprintf(
				"%gx", load,
			), phases: []phase{{lasts: l.warm + l.measured, load: load}}, measured: l.measured, stages: 1,
			figures: steady, format: "%.2f / %.0f / %.0f",
		})
	}
	add(scenario{
		name: fmt.Sprintf(
			"2x after %v", l.minute,
		), phases: []phase{{lasts: l.minute + l.measured, load: 2}}, measured: l.measured, stages: 1,
		figures: steady, format: "%.2f / %.0f / %.0f",
	})
	add(scenario{
		name: "service time doubles at 1.2x", stages: 1, measured: 2 * l.burst,
		phases: []phase{
			{lasts: l.warm, load: 1.2},
			{lasts: l.burst, load: 1.2, hold: 2 * hold},
			{lasts: l.burst, load: 1.2},
		},
		figures: doubling(l), format: "%.2f, first s %.2f, after %.2f / %.0f",
	})
	add(scenario{
		name: "burst of 3x over 0.7x", stages: 1, measured: l.measured,
		phases:  []phase{{lasts: l.warm, load: 0.7}, {lasts: l.burst, load: 3}, {lasts: l.measured, load: 0.7}},
		figures: recovery, format: "normal after %.0f ms",
	})
	add(scenario{
		name: "greedy client 2.4x, three at 0.2x", phases: []phase{{lasts: l.warm + l.measured, load: 3}},
		measured: l.measured, stages: 1,
		shares: []float64{0.8, 0.2 / 3, 0.2 / 3, 0.2 / 3}, figures: fairness, format: "Jain %.2f, %.2f / %.0f",
	})
	for _, load := range []float64{2, 4} {
		add(scenario{
			name: fmt.Sprintf(
				"two stages, %gx", load,
			), phases: []phase{{lasts: l.warm + l.measured, load: load}}, measured: l.measured, stages: 2,
			figures: waste, format: "%.2f / %.0f / work %.2f",
		})
	}
	return all
}
