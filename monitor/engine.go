package monitor

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// resolvedRetention is how long a resolved alert stays listed, as in Prometheus.
const resolvedRetention = 15 * time.Minute

// reader gives the samples of a family now.
type reader func(f *Family, emit func(labels [MaxLabels]string, value float64))

// engine evaluates rules with the semantics of Prometheus' alerting rules.
type engine struct {
	rules []compiled

	mu          sync.Mutex
	past        past
	groups      groups
	subscribers []*func(Transition)
	silences    []*Silence
	heldUp      map[string]string // services that the bottleneck holds up: its id by theirs
}

// compiled is a rule and the alerts that it has.
type compiled struct {
	Rule
	family, over *Family
	by           []int // the positions of By among the family's labels
	match        []labelMatch
	inhibitedBy  []int // rules
	active       map[[MaxLabels]string]*active
}

type labelMatch struct {
	position int
	value    string
}

// active is one alert, by the values of its group's labels.
type active struct {
	state                           AlertState // Inactive stands for resolved
	value                           float64
	since, fired, keeping, resolved time.Time
	lastHeld                        time.Time // when the condition last held
	acknowledged                    string
}

func newEngine(rules []Rule) *engine {
	e := &engine{past: past{series: map[*Family]*kept{}}, groups: groups{}}
	names := map[string]int{}
	for _, r := range rules {
		if r.Disabled {
			continue
		}
		c := compiled{Rule: r, family: familyByName[r.Condition.Metric], over: familyByName[r.Condition.Over], active: map[[MaxLabels]string]*active{}}
		if c.family == nil {
			continue // validate has rejected it
		}
		for _, name := range r.Condition.By {
			c.by = append(c.by, slices.Index(c.family.Labels, name))
		}
		for _, name := range slices.Sorted(maps.Keys(r.Condition.Match)) {
			c.match = append(c.match, labelMatch{slices.Index(c.family.Labels, name), r.Condition.Match[name]})
		}
		if r.Condition.Func == Rate || r.Condition.Func == Increase {
			e.past.keep = max(e.past.keep, r.Condition.Window)
			k := e.past.series[c.family]
			if k == nil {
				k = &kept{series: map[[MaxLabels]string]*series{}}
				e.past.series[c.family] = k
			}
			k.window = max(k.window, r.Condition.Window)
		}
		names[r.Name] = len(e.rules)
		e.rules = append(e.rules, c)
	}
	for i := range e.rules {
		for _, name := range e.rules[i].Inhibits {
			if j, ok := names[name]; ok {
				e.rules[j].inhibitedBy = append(e.rules[j].inhibitedBy, i)
			}
		}
	}
	return e
}

// change is one step of one alert.
type change struct {
	rule     *compiled
	group    [MaxLabels]string
	from, to AlertState
	alert    *active
}

// evaluate runs all rules at now and returns what changed, in the order of the
// rules and of their groups.
func (e *engine) evaluate(now time.Time, read reader) []Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.past.record(now, read)
	e.silences = slices.DeleteFunc(e.silences, func(s *Silence) bool { return !now.Before(s.Until) })
	var changes []change
	for i := range e.rules {
		r := &e.rules[i]
		clear(e.groups)
		r.gather(e.groups, now, read, &e.past)
		changes = r.step(changes, e.groups, now)
	}
	// Only now: whether one alert inhibits another depends on all of them.
	transitions := make([]Transition, len(changes))
	for i, c := range changes {
		alert := e.alertLocked(c.rule, c.group, c.alert)
		alert.State = c.to
		transitions[i] = Transition{Alert: alert, From: c.from, To: c.to, Time: now}
	}
	return transitions
}

// step takes the rule's alerts to where the groups' numbers want them.
func (r *compiled) step(changes []change, values groups, now time.Time) []change {
	forced := r.fires(values)
	if forced {
		values[[MaxLabels]string{}] = 0
	}
	var held [][MaxLabels]string
	for group, value := range values {
		if forced || r.Condition.Func == Absent || r.Condition.Compare.holds(value, r.Condition.Threshold) {
			held = append(held, group)
		}
	}
	slices.SortFunc(held, compareGroups)
	for _, group := range held {
		a := r.active[group]
		if a == nil || a.state == Inactive {
			a = &active{state: Pending, since: now}
			r.active[group] = a
			if r.For > 0 {
				changes = append(changes, change{r, group, Inactive, Pending, a})
			}
		}
		a.value, a.lastHeld = values[group], now
	}
	for _, group := range slices.SortedFunc(maps.Keys(r.active), compareGroups) {
		a := r.active[group]
		value, present := values[group]
		before := a.state
		switch {
		case a.lastHeld.Equal(now):
			a.keeping = time.Time{}
		case !present && r.heldOver(a, group, len(values) > 0, now):
		default:
			if present {
				a.value = value
			}
			if !r.end(a, group, now) && before == Pending {
				changes = append(changes, change{r, group, Pending, Inactive, a})
			} else if before == Firing && a.state == Inactive {
				changes = append(changes, change{r, group, Firing, Resolved, a})
			}
		}
		if a.state == Pending && now.Sub(a.since) >= r.For && r.active[group] == a {
			a.state, a.fired = Firing, now
			from := Pending
			if r.For == 0 {
				from = Inactive
			}
			changes = append(changes, change{r, group, from, Firing, a})
		}
	}
	return changes
}

// fires says that there is no number at all, that the rule takes this for a
// failure, and that none of its alerts says so already.
func (r *compiled) fires(values groups) bool {
	if r.NoData != NoDataFire || len(values) > 0 {
		return false
	}
	for group, a := range r.active {
		if a.state != Inactive && group != ([MaxLabels]string{}) {
			return false
		}
	}
	return true
}

// heldOver says whether a group without a number stays as it is.
func (r *compiled) heldOver(a *active, group [MaxLabels]string, anyNumber bool, now time.Time) bool {
	if a.state == Inactive {
		return false
	}
	switch r.NoData {
	case NoDataFire: // the group without labels stands for "no number at all"
		return !anyNumber || len(r.by) == 0 || group != [MaxLabels]string{}
	case NoDataKeep:
		return now.Sub(a.lastHeld) < NoDataPatience
	default:
		return false
	}
}

// end does to an alert what follows from its condition not holding, and says
// whether it is still listed.
func (r *compiled) end(a *active, group [MaxLabels]string, now time.Time) bool {
	if a.state == Firing && r.KeepFiring > 0 {
		if a.keeping.IsZero() {
			a.keeping = now
		}
		if now.Sub(a.keeping) < r.KeepFiring {
			return true
		}
	}
	if a.state == Pending || a.state == Inactive && now.Sub(a.resolved) > resolvedRetention {
		delete(r.active, group)
		return false
	}
	if a.state != Inactive {
		a.state, a.resolved, a.acknowledged = Inactive, now, ""
	}
	return true
}

func (e *engine) subscribe(f func(Transition)) (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subscribers = append(slices.Clip(e.subscribers), &f)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.subscribers = slices.DeleteFunc(slices.Clone(e.subscribers), func(other *func(Transition)) bool { return other == &f })
	}
}

func (e *engine) deliver(t Transition) {
	e.mu.Lock()
	subscribers := e.subscribers
	e.mu.Unlock()
	for _, f := range subscribers {
		(*f)(t)
	}
}
