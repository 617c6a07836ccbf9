package monitor

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// The engine's alerts as others see them: with their labels and texts, and with
// what makes them quiet.

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
		alert.CausedBy = e.heldUp[labels.Get("service_id")]
	}
	for _, s := range e.silences {
		alert.Silenced = alert.Silenced || s.covers(&alert)
	}
	return alert
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

// loadFamily is the one that fills up upstream of a slow service.
var loadFamily = familyByName["flowctl_service_load_ratio"]

func (e *engine) setHeldUp(by map[string]string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heldUp = by
}
