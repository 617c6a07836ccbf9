package alert

import (
	"cmp"
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
	// By and Comment are for people: the author and the reason.
	By, Comment string
}

func (s *Silence) covers(a *Alert) bool {
	for name, value := range s.Match {
		has := a.Labels[name]
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

// Silence marks matching alerts as silenced until its end, or until cancel is
// called. They go on through their states.
func (e *Engine) Silence(s Silence) (cancel func()) {
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

// Acknowledge says that somebody, by name, has taken up the alerts of a rule
// whose labels include those given. It lasts until they resolve. Where nothing
// matches it returns [ErrNoAlert] and changes nothing.
func (e *Engine) Acknowledge(rule string, labels map[string]string, by string) error {
	if e.acknowledge(rule, labels, cmp.Or(by, "somebody")) == 0 {
		return ErrNoAlert
	}
	return nil
}

func (e *Engine) acknowledge(rule string, labels map[string]string, by string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.rules {
		r := &e.rules[i]
		if r.Name != rule {
			continue
		}
		for group, a := range r.active {
			own := r.labels(group)
			different := func(name string) bool { return own[name] != labels[name] }
			if a.state != Inactive && !slices.ContainsFunc(slices.Collect(maps.Keys(labels)), different) {
				a.acknowledged = by
				n++
			}
		}
	}
	return n
}
