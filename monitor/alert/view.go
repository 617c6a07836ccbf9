package alert

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/monitor"
)

// The engine's alerts as others see them: with their labels and texts, and with
// what makes them quiet.

// Alerts returns what is pending, firing, or was resolved in the last 15
// minutes, in the order of the rules. The caller owns the list.
func (e *Engine) Alerts() []Alert { return e.alerts(time.Now()) }

func (e *Engine) alerts(now time.Time) (list []Alert) {
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
func (e *Engine) counts() (list []monitor.AlertCount) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.rules {
		r := &e.rules[i]
		var n [Resolved + 1]int
		for _, a := range r.active {
			n[a.state]++
		}
		for _, state := range []State{Pending, Firing} {
			if n[state] > 0 {
				list = append(list, monitor.AlertCount{
					Name: r.Name, State: state.String(), Severity: string(r.Severity),
					Count: n[state],
				})
			}
		}
	}
	slices.SortFunc(list, func(a, b monitor.AlertCount) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.State, b.State))
	})
	return list
}

func (r *compiled) labels(group [monitor.MaxLabels]string) Labels {
	labels := Labels{}
	maps.Copy(labels, r.Labels)
	for i, name := range r.Condition.By {
		labels[name] = group[i]
	}
	if r.Condition.Func == Absent { // what is missing carries the labels that it should have
		maps.Copy(labels, r.Condition.Match)
	}
	return labels
}

func (e *Engine) alertLocked(r *compiled, group [monitor.MaxLabels]string, a *active) Alert {
	labels := r.labels(group)
	alert := Alert{
		Rule: r.Name, State: a.state, Severity: r.Severity, Labels: labels, Value: finite(a.value),
		Summary: expand(r.Summary, labels, a.value), Description: expand(r.Description, labels, a.value),
		Runbook:  r.RunbookURL(),
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
		alert.CausedBy = e.causedBy(labels["service_id"])
	}
	for _, s := range e.silences {
		alert.Silenced = alert.Silenced || s.covers(&alert)
	}
	return alert
}

// firesLocked says whether one of r's alerts fires with the same values of the
// labels that count.
func (e *Engine) firesLocked(r *compiled, labels Labels) bool {
	for group, a := range r.active {
		if a.state != Firing {
			continue
		}
		own := r.labels(group)
		if !slices.ContainsFunc(r.InhibitEqual, func(name string) bool { return own[name] != labels[name] }) {
			return true
		}
	}
	return false
}

// loadFamily is the one that fills up upstream of a slow service.
var loadFamily = familyOf("flowctl_service_load_ratio")

// finite is v as JSON can hold it.
func finite(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return min(max(v, -math.MaxFloat64), math.MaxFloat64)
}
