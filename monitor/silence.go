package monitor

import (
	"maps"
	"slices"
	"time"
)

// Silence holds alerts back while they match.
type Silence struct {
	// Match are label values, alertname and severity among them, that an alert
	// must all have.
	Match map[string]string
	// Until is when it ends.
	Until time.Time
	// By and Comment say who and why.
	By, Comment string
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
