package monitor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Label is one name and value.
type Label struct{ Name, Value string }

// Labels are in order of their names.
type Labels []Label

// Get returns the value of the label of that name, or "".
func (l Labels) Get(name string) string {
	for _, label := range l {
		if label.Name == name {
			return label.Value
		}
	}
	return ""
}

// String writes the labels as Prometheus does.
func (l Labels) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, label := range l {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(label.Name + "=\"" + label.Value + "\"")
	}
	b.WriteByte('}')
	return b.String()
}

// MarshalJSON writes the labels as an object.
func (l Labels) MarshalJSON() ([]byte, error) {
	object := make(map[string]string, len(l))
	for _, label := range l {
		object[label.Name] = label.Value
	}
	return json.Marshal(object)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (l *Labels) UnmarshalJSON(data []byte) error {
	var object map[string]string
	if err := json.Unmarshal(data, &object); err != nil {
		return err
	}
	*l = labelsOf(object)
	return nil
}

func labelsOf(object map[string]string) Labels {
	l := make(Labels, 0, len(object))
	for name, value := range object {
		l = append(l, Label{name, value})
	}
	slices.SortFunc(l, func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
	return l
}

// AlertState is where an alert is.
type AlertState uint8

// The states, as in Prometheus; Resolved is the inactive state of an alert
// that has fired.
const (
	Inactive AlertState = iota
	Pending
	Firing
	Resolved
)

var alertStates = [...]string{"inactive", "pending", "firing", "resolved"}

// String returns the state's name.
func (s AlertState) String() string { return alertStates[s] }

// MarshalText makes the state its name in JSON.
func (s AlertState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
func (s *AlertState) UnmarshalText(text []byte) error {
	i := slices.Index(alertStates[:], string(text))
	if i < 0 {
		return fmt.Errorf("monitor: %q is no state of an alert", text)
	}
	*s = AlertState(i)
	return nil
}

// Alert is one alert at one moment.
type Alert struct {
	Rule     string     `json:"alertname"`
	State    AlertState `json:"state"`
	Severity Severity   `json:"severity"`
	// Labels are the group's labels and the rule's.
	Labels Labels `json:"labels"`
	// Value is the number that the condition last compared.
	Value       float64 `json:"value"`
	Summary     string  `json:"summary"`
	Description string  `json:"description"`
	Runbook     string  `json:"runbook_url"`
	// ActiveAt is when the condition began to hold, FiredAt when the alert
	// fired and ResolvedAt when it ended; zero if it has not.
	ActiveAt   time.Time `json:"active_at,omitzero"`
	FiredAt    time.Time `json:"fired_at,omitzero"`
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
	// Acknowledged names who has taken the alert up.
	Acknowledged string `json:"acknowledged,omitempty"`
	// Silenced says that a silence covers it, Inhibited names the rule whose
	// alert says the same and more.
	Silenced  bool   `json:"silenced,omitempty"`
	Inhibited string `json:"inhibited,omitempty"`
	// CausedBy names the service that holds this alert's service back: it is
	// loaded because of the other, whose own alert says so.
	CausedBy string `json:"caused_by,omitempty"`
}

// Quiet says that nobody needs to be told.
func (a *Alert) Quiet() bool {
	return a.Silenced || a.Inhibited != "" || a.CausedBy != "" || a.Acknowledged != ""
}

// urgent says that the alert fires and that nothing holds it back: a report that
// calls its pipeline healthy would contradict it.
func (a *Alert) urgent() bool { return a.State == Firing && a.Severity != Info && !a.Silenced }

// Transition is a change of one alert.
type Transition struct {
	Alert    Alert
	From, To AlertState
	Time     time.Time
}

// ErrNoAlert is returned by [Monitor.Acknowledge] when nothing matches.
var ErrNoAlert = errors.New("monitor: no such alert is pending or firing")

// Alerts returns the alerts of the in-process engine: pending, firing, and those
// resolved in the last 15 minutes, in the order of the rules. The engine runs
// while the monitor is started.
func (m *Monitor) Alerts() []Alert { return m.engine.alerts(time.Now()) }

// OnAlert calls f with every change of an alert, in order, until stop is
// called. f runs on the monitor's own goroutine and must not block.
func (m *Monitor) OnAlert(f func(Transition)) (stop func()) { return m.engine.subscribe(f) }

// Acknowledge says that somebody has taken up the alerts of a rule whose labels
// include those given. It lasts until they resolve.
func (m *Monitor) Acknowledge(rule string, labels map[string]string, by string) error {
	if m.engine.acknowledge(rule, labels, cmp.Or(by, "somebody")) == 0 {
		return ErrNoAlert
	}
	return nil
}

// Silence holds matching alerts back until its end, or until the returned
// function is called. They go on through their states, marked as silenced.
func (m *Monitor) Silence(s Silence) (cancel func()) { return m.engine.silence(s) }

// evaluate runs the rules on a snapshot.
func (m *Monitor) evaluate(s *Snapshot) {
	all := *s
	all.scope = AllServices
	read := func(f *Family, emit func([MaxLabels]string, float64)) {
		f.Collect(&all, func(v Sample) { emit(v.Labels, v.Value) })
	}
	m.engine.setHeldUp(heldUp(s.Bottleneck))
	m.scaling.evaluate(s.Time, read)
	for _, t := range m.engine.evaluate(s.Time, read) {
		level := slog.LevelInfo
		if t.To == Firing && !t.Alert.Quiet() {
			level = slog.LevelWarn
		}
		if t.To == Firing || t.To == Resolved {
			m.cfg.Logger.Log(context.Background(), level, "alert "+t.To.String(), "alertname", t.Alert.Rule,
				"severity", string(t.Alert.Severity), "labels", t.Alert.Labels.String(), "value", t.Alert.Value,
				"summary", t.Alert.Summary, "quiet", t.Alert.Quiet())
		}
		m.engine.deliver(t)
	}
	// What was just decided belongs to the same moment.
	with := *s
	with.Alerts = m.engine.counts()
	m.latest.CompareAndSwap(s, &with)
}
