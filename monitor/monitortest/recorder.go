package monitortest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/withobsrvr/sluice/monitor/alert"
)

// AlertRecorder keeps the transitions of alerts. Give its Record method to
// [alert.Engine.OnTransition].
type AlertRecorder struct {
	mu   sync.Mutex
	list []alert.Transition
}

// Record keeps t.
func (r *AlertRecorder) Record(t alert.Transition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, t)
}

// Transitions returns what was recorded, in order.
func (r *AlertRecorder) Transitions() []alert.Transition {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}

// Lines returns what was recorded, a line such as
// `BackpressureActive{} pending -> firing` each.
func (r *AlertRecorder) Lines() []string {
	var lines []string
	for _, t := range r.Transitions() {
		lines = append(lines, fmt.Sprintf("%s%s %s -> %s", t.Alert.Rule, t.Alert.Labels, t.From, t.To))
	}
	return lines
}
