package alert

import (
	"math"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/monitor"
)

// groups are what a condition makes of its family's samples: a number for each
// combination of the values of its By labels.
type groups map[[monitor.MaxLabels]string]float64

// gather puts the number of each group that has one into the empty groups.
func (r *compiled) gather(groups groups, now time.Time, read reader, p *past) {
	c := &r.Condition
	add := func(labels [monitor.MaxLabels]string, value float64) {
		group := r.group(labels)
		old, ok := groups[group]
		switch {
		case !ok || c.Aggregate != Sum && math.IsNaN(old): // any number is more, and less, than none
			groups[group] = value
		case c.Aggregate == Sum:
			groups[group] = old + value
		case math.IsNaN(value):
		case c.Aggregate == Min:
			groups[group] = min(old, value)
		default:
			groups[group] = max(old, value)
		}
	}
	switch c.Func {
	case Value, Absent:
		read(r.family, func(labels [monitor.MaxLabels]string, value float64) {
			if r.matches(labels) {
				add(labels, value)
			}
		})
		if c.Func == Absent {
			present := len(groups) > 0
			clear(groups)
			if !present {
				groups[[monitor.MaxLabels]string{}] = 1
			}
		}
	case Ratio:
		divisors := map[[monitor.MaxLabels]string]float64{}
		read(r.over, func(labels [monitor.MaxLabels]string, value float64) { divisors[labels] = value })
		read(r.family, func(labels [monitor.MaxLabels]string, value float64) {
			if divisor := divisors[labels]; divisor > 0 && r.matches(labels) {
				add(labels, value/divisor)
			}
		})
	case Rate, Increase:
		for labels, s := range p.series[r.family].series {
			if !r.matches(labels) {
				continue
			}
			per := 1.0
			if c.Func == Rate {
				per = seconds(c.Window)
			}
			if growth, ok := p.increase(s, now, c.Window, per); ok {
				add(labels, growth)
			}
		}
	}
}

// group is the values of the By labels, in their order.
func (r *compiled) group(labels [monitor.MaxLabels]string) (group [monitor.MaxLabels]string) {
	for i, position := range r.by {
		group[i] = labels[position]
	}
	return group
}

// matches reports whether all labels of Match have the wanted value. Prometheus'
// equality matcher takes a label that is missing for the empty string; families
// have all their labels, so the difference cannot show.
func (r *compiled) matches(labels [monitor.MaxLabels]string) bool {
	for _, m := range r.match {
		if labels[m.position] != m.value {
			return false
		}
	}
	return true
}

func compareGroups(a, b [monitor.MaxLabels]string) int { return slices.Compare(a[:], b[:]) }
