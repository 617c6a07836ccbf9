package alert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Labels are the labels of an alert, by name. Nil has none.
type Labels map[string]string

// String writes the labels in order of their names, as Prometheus does:
// {endpoint="sink:8815", service_id="sink"}.
func (l Labels) String() string {
	pairs := make([]string, 0, len(l))
	for _, name := range slices.Sorted(maps.Keys(l)) {
		pairs = append(pairs, name+"=\""+l[name]+"\"")
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}

// State is where an alert is in its life.
type State uint8

// The states, as in Prometheus; Resolved is the inactive state of an alert
// that has fired.
const (
	Inactive State = iota
	Pending
	Firing
	Resolved
)

var states = [...]string{"inactive", "pending", "firing", "resolved"}

// String returns the state's name.
func (s State) String() string { return states[s] }

// MarshalText makes the state its name in JSON.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name. Anything else is an error and changes
// nothing.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(states[:], string(text))
	if i < 0 {
		return fmt.Errorf("alert: %q is no state of an alert", text)
	}
	*s = State(i)
	return nil
}

// Alert is one alert at one moment: a rule, and the group of series for which
// its condition holds.
type Alert struct {
	Rule     string   `json:"alertname"`
	State    State    `json:"state"`
	Severity Severity `json:"severity"`
	// Labels are the group's labels and the rule's.
	Labels Labels `json:"labels"`
	// Value is the number that the condition last compared, in the unit of the
	// rule's family.
	Value       float64 `json:"value"`
	Summary     string  `json:"summary"`
	Description string  `json:"description"`
	Runbook     string  `json:"runbook_url"`
	// ActiveAt is when the condition began to hold, FiredAt when the alert
	// fired and ResolvedAt when it ended; zero if it has not.
	ActiveAt   time.Time `json:"active_at,omitzero"`
	FiredAt    time.Time `json:"fired_at,omitzero"`
	ResolvedAt time.Time `json:"resolved_at,omitzero"`
	// Acknowledged names the person that has taken the alert up.
	Acknowledged string `json:"acknowledged,omitempty"`
	// Silenced says that a silence covers it, Inhibited names the rule whose
	// alert says the same and more.
	Silenced  bool   `json:"silenced,omitempty"`
	Inhibited string `json:"inhibited,omitempty"`
	// CausedBy names the service that holds this alert's service back: it is
	// loaded because of the other, whose own alert says so.
	CausedBy string `json:"caused_by,omitempty"`
}

// Quiet reports whether nobody needs to be notified of the alert.
func (a *Alert) Quiet() bool {
	return a.Silenced || a.Inhibited != "" || a.CausedBy != "" || a.Acknowledged != ""
}

// Transition is a change of one alert.
type Transition struct {
	Alert    Alert
	From, To State
	Time     time.Time
}

// ErrNoAlert is returned by [Engine.Acknowledge] when nothing matches.
var ErrNoAlert = errors.New("alert: no such alert is pending or firing")
