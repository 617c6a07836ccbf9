package monitor

import (
	"cmp"
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
	subscribers []*func(Transition)
	silences    []*Silence
	victims     map[string]string // services that another holds back, by their ids
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
	e := &engine{past: past{series: map[*Family]*kept{}}}
	names := map[string]int{}
	for _, r := range rules {
		if r.Disabled {
			continue
		}
		c := compiled{Rule: r, family: familyByName[r.Condition.Metric], over: familyByName[r.Condition.Over], active: map[[MaxLabels]string]*active{}}
		if c.family == nil {
			continue // refused by validate, before
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

// evaluate runs all rules at now and returns what changed, in the order of the
// rules and of their groups.
func (e *engine) evaluate(now time.Time, read reader) []Transition {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.past.record(now, read)
	e.silences = slices.DeleteFunc(e.silences, func(s *Silence) bool { return !now.Before(s.Until) })
	type change struct {
		rule     int
		group    [MaxLabels]string
		from, to AlertState
		alert    *active
	}
	var changes []change
	for i := range e.rules {
		r := &e.rules[i]
		values := r.values(now, read, &e.past)
		forced := r.fires(values)
		if forced {
			values[[MaxLabels]string{}] = 0
		}
		for _, group := range slices.SortedFunc(maps.Keys(values), compareGroups) {
			if !forced && !r.Condition.Compare.holds(values[group], r.Condition.Threshold) && r.Condition.Func != Absent {
				continue
			}
			a := r.active[group]
			if a == nil || a.state == Inactive {
				a = &active{state: Pending, since: now}
				r.active[group] = a
				if r.For > 0 {
					changes = append(changes, change{i, group, Inactive, Pending, a})
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
					changes = append(changes, change{i, group, Pending, Inactive, a})
				} else if before == Firing && a.state == Inactive {
					changes = append(changes, change{i, group, Firing, Resolved, a})
				}
			}
			if a.state == Pending && now.Sub(a.since) >= r.For && r.active[group] == a {
				a.state, a.fired = Firing, now
				from := Pending
				if r.For == 0 {
					from = Inactive
				}
				changes = append(changes, change{i, group, from, Firing, a})
			}
		}
	}
	transitions := make([]Transition, len(changes))
	for i, c := range changes {
		r := &e.rules[c.rule]
		alert := e.alertLocked(r, c.group, c.alert)
		alert.State = c.to
		transitions[i] = Transition{Alert: alert, From: c.from, To: c.to, Time: now}
	}
	return transitions
}

// fires says that there is no number at all, that the rule takes this for a
// failure, and that none of its alerts says so already.
func (r *compiled) fires(values map[[MaxLabels]string]float64) bool {
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

// values computes the number of each group that has one.
func (r *compiled) values(now time.Time, read reader, p *past) map[[MaxLabels]string]float64 {
	groups := map[[MaxLabels]string]float64{}
	c := &r.Condition
	add := func(labels [MaxLabels]string, value float64) {
		group := r.group(labels)
		old, ok := groups[group]
		switch {
		case !ok:
			groups[group] = value
		case c.Aggregate == Sum:
			groups[group] = old + value
		case c.Aggregate == Min:
			groups[group] = min(old, value)
		default:
			groups[group] = max(old, value)
		}
	}
	switch c.Func {
	case Value, Absent:
		read(r.family, func(labels [MaxLabels]string, value float64) {
			if r.matches(labels) {
				add(labels, value)
			}
		})
		if c.Func == Absent {
			present := len(groups) > 0
			clear(groups)
			if !present {
				groups[[MaxLabels]string{}] = 1
			}
		}
	case Ratio:
		divisors := map[[MaxLabels]string]float64{}
		read(r.over, func(labels [MaxLabels]string, value float64) { divisors[labels] = value })
		read(r.family, func(labels [MaxLabels]string, value float64) {
			if divisor := divisors[labels]; divisor > 0 && r.matches(labels) {
				add(labels, value/divisor)
			}
		})
	case Rate, Increase:
		for labels, s := range p.series[r.family].series {
			if !r.matches(labels) {
				continue
			}
			if growth, ok := p.increase(s, now, c.Window); ok {
				if c.Func == Rate {
					growth /= c.Window.Seconds()
				}
				add(labels, growth)
			}
		}
	}
	return groups
}

func (r *compiled) group(labels [MaxLabels]string) (group [MaxLabels]string) {
	for i, position := range r.by {
		group[i] = labels[position]
	}
	return group
}

func (r *compiled) matches(labels [MaxLabels]string) bool {
	for _, m := range r.match {
		if labels[m.position] != m.value {
			return false
		}
	}
	return true
}

func compareGroups(a, b [MaxLabels]string) int { return slices.Compare(a[:], b[:]) }

func (r *compiled) labels(group [MaxLabels]string) Labels {
	object := maps.Clone(r.Labels)
	if object == nil {
		object = map[string]string{}
	}
	for i, name := range r.Condition.By {
		object[name] = group[i]
	}
	if r.Condition.Func == Absent { // what is missing carries the labels that it should have
		maps.Copy(object, r.Condition.Match)
	}
	return labelsOf(object)
}

func (e *engine) alertLocked(r *compiled, group [MaxLabels]string, a *active) Alert {
	labels := r.labels(group)
	alert := Alert{
		Rule: r.Name, State: a.state, Severity: r.Severity, Labels: labels, Value: finite(a.value),
		Summary: expand(r.Summary, labels, a.value), Description: expand(r.Description, labels, a.value), Runbook: r.RunbookURL(),
		ActiveAt: a.since, FiredAt: a.fired, ResolvedAt: a.resolved, Acknowledged: a.acknowledged,
	}
	if a.state == Inactive && !a.fired.IsZero() {
		alert.State = Resolved
	}
	for _, i := range r.inhibitedBy {
		if e.firesLocked(&e.rules[i], labels) {
			alert.Inhibited = e.rules[i].Name
		}
	}
	if r.family == loadFamily {
		alert.CausedBy = e.victims[labels.Get("service_id")]
	}
	for _, s := range e.silences {
		alert.Silenced = alert.Silenced || s.covers(&alert)
	}
	return alert
}

// loadFamily is the one that fills up upstream of a slow service.
var loadFamily = familyByName["flowctl_service_load_ratio"]

func (e *engine) setVictims(by map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.victims = by
}

// firesLocked says whether one of r's alerts fires with the same values of the
// labels that count.
func (e *engine) firesLocked(r *compiled, labels Labels) bool {
	for group, a := range r.active {
		if a.state != Firing {
			continue
		}
		own := r.labels(group)
		if !slices.ContainsFunc(r.InhibitEqual, func(name string) bool { return own.Get(name) != labels.Get(name) }) {
			return true
		}
	}
	return false
}

func (s *Silence) covers(a *Alert) bool {
	for name, value := range s.Match {
		has := a.Labels.Get(name)
		switch name {
		case "alertname":
			has = a.Rule
		case "severity":
			has = string(a.Severity)
		}
		if has != value {
			return false
		}
	}
	return len(s.Match) > 0
}

func (e *engine) alerts(now time.Time) (list []Alert) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.rules {
		r := &e.rules[i]
		for _, group := range slices.SortedFunc(maps.Keys(r.active), compareGroups) {
			a := r.active[group]
			if a.state != Inactive || now.Sub(a.resolved) <= resolvedRetention {
				list = append(list, e.alertLocked(r, group, a))
			}
		}
	}
	return list
}

// counts returns how many alerts of each rule are pending and firing.
func (e *engine) counts() (list []AlertCount) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.rules {
		r := &e.rules[i]
		var n [Resolved + 1]int
		for _, a := range r.active {
			n[a.state]++
		}
		for _, state := range []AlertState{Pending, Firing} {
			if n[state] > 0 {
				list = append(list, AlertCount{Name: r.Name, State: state.String(), Severity: string(r.Severity), Count: n[state]})
			}
		}
	}
	slices.SortFunc(list, func(a, b AlertCount) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.State, b.State)) })
	return list
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

func (e *engine) acknowledge(rule string, labels map[string]string, by string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.rules {
		r := &e.rules[i]
		if r.Name != rule {
			continue
		}
		for group, a := range r.active {
			own := r.labels(group)
			different := func(name string) bool { return own.Get(name) != labels[name] }
			if a.state != Inactive && !slices.ContainsFunc(slices.Collect(maps.Keys(labels)), different) {
				a.acknowledged = by
				n++
			}
		}
	}
	return n
}

func (e *engine) silence(s Silence) (cancel func()) {
	s.Match = maps.Clone(s.Match)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.silences = append(e.silences, &s)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.silences = slices.DeleteFunc(e.silences, func(other *Silence) bool { return other == &s })
	}
}
