package alert

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/withobsrvr/sluice/monitor"
)

// Config configures an [Engine].
type Config struct {
	// Rules to evaluate. Nil: [DefaultRules]. Empty: none.
	Rules []Rule
	// Logger receives alerts that fire, as warnings, and that resolve. Nil:
	// nothing is logged.
	Logger *slog.Logger
}

// resolvedRetention is how long a resolved alert stays listed, as in Prometheus.
const resolvedRetention = 15 * time.Minute

// reader gives the samples of a family now.
type reader func(f *monitor.Family, emit func(labels [monitor.MaxLabels]string, value float64))

// Engine evaluates a set of rules and holds their alerts. Make one with [New].
type Engine struct {
	rules []compiled
	log   *slog.Logger

	evaluating sync.Mutex // held for one evaluation, its subscribers included

	mu          sync.Mutex
	past        past
	groups      groups
	subscribers []*func(Transition)
	silences    []*Silence
	causedBy    func(service string) string // the bottleneck that holds a service up, or ""
}

// compiled is a rule and the alerts that it has.
type compiled struct {
	Rule
	family, over *monitor.Family
	by           []int // the positions of By among the family's labels
	match        []labelMatch
	inhibitedBy  []int // rules
	active       map[[monitor.MaxLabels]string]*active
}

type labelMatch struct {
	position int
	value    string
}

// active is one alert, by the values of its group's labels.
type active struct {
	state                           State // Inactive stands for resolved
	value                           float64
	since, fired, keeping, resolved time.Time
	lastHeld                        time.Time // when the condition last held
	acknowledged                    string
}

// New returns an engine without alerts. It evaluates nothing by itself: see
// [Engine.Watch].
func New(cfg Config) (*Engine, error) {
	if cfg.Rules == nil {
		cfg.Rules = DefaultRules()
	}
	if err := validate(cfg.Rules); err != nil {
		return nil, err
	}
	e := newEngine(slices.DeleteFunc(slices.Clone(cfg.Rules), func(r Rule) bool { return r.ScrapeOnly }))
	e.log = cmp.Or(cfg.Logger, e.log)
	return e, nil
}

func newEngine(rules []Rule) *Engine {
	e := &Engine{
		past: past{series: map[*monitor.Family]*kept{}}, groups: groups{}, log: slog.New(slog.DiscardHandler),
		causedBy: func(string) string { return "" },
	}
	names := map[string]int{}
	for _, r := range rules {
		if r.Disabled {
			continue
		}
		c := compiled{
			Rule: r, family: familyOf(r.Condition.Metric), over: familyOf(r.Condition.Over),
			active: map[[monitor.MaxLabels]string]*active{},
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
				k = &kept{series: map[[monitor.MaxLabels]string]*series{}}
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
	group    [monitor.MaxLabels]string
	from, to State
	alert    *active
}

// Watch evaluates the rules on the snapshot of every interval of m while m is
// started, and adds the counts of pending and firing alerts to m's snapshots,
// until stop is called. An engine watches one monitor at a time.
func (e *Engine) Watch(m *monitor.Monitor) (stop func()) {
	stopTicks := m.OnTick(e.Evaluate)
	stopCounts := m.Watch(monitor.SourceFunc(func(d *monitor.Draft) { d.Alerts(e.counts()...) }))
	return func() { stopTicks(); stopCounts() }
}

// Evaluate runs all rules on s, whatever the scope of the monitor that made it,
// and calls the subscribers with what changed before it returns. Snapshots must
// come in the order of their times; [Engine.Watch] calls it for a monitor.
func (e *Engine) Evaluate(s *monitor.Snapshot) {
	e.evaluating.Lock()
	defer e.evaluating.Unlock()
	all := s.WithScope(monitor.AllServices)
	read := func(f *monitor.Family, emit func([monitor.MaxLabels]string, float64)) {
		f.Collect(all, func(v monitor.Sample) { emit(v.Labels, v.Value) })
	}
	e.mu.Lock()
	e.causedBy = s.HeldUpBy
	e.mu.Unlock()
	for _, t := range e.evaluate(s.Time, read) {
		e.logTransition(&t)
		e.deliver(t)
	}
}

func (e *Engine) logTransition(t *Transition) {
	level := slog.LevelInfo
	if t.To == Firing && !t.Alert.Quiet() {
		level = slog.LevelWarn
	}
	if t.To == Firing || t.To == Resolved {
		e.log.Log(context.Background(), level, "alert "+t.To.String(), "alertname", t.Alert.Rule,
			"severity", string(t.Alert.Severity), "labels", t.Alert.Labels.String(), "value", t.Alert.Value,
			"summary", t.Alert.Summary, "quiet", t.Alert.Quiet())
	}
}

// evaluate runs all rules at now and returns what changed, in the order of the
// rules and of their groups.
func (e *Engine) evaluate(now time.Time, read reader) []Transition {
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
		values[[monitor.MaxLabels]string{}] = 0
	}
	var held [][monitor.MaxLabels]string
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
		if a.state != Inactive && group != ([monitor.MaxLabels]string{}) {
			return false
		}
	}
	return true
}

// heldOver says whether a group without a number stays as it is.
func (r *compiled) heldOver(a *active, group [monitor.MaxLabels]string, anyNumber bool, now time.Time) bool {
	if a.state == Inactive {
		return false
	}
	switch r.NoData {
	case NoDataFire: // the group without labels stands for "no number at all"
		return !anyNumber || len(r.by) == 0 || group != [monitor.MaxLabels]string{}
	case NoDataKeep:
		return now.Sub(a.lastHeld) < noDataPatience
	default:
		return false
	}
}

// end does to an alert what follows from its condition not holding, and says
// whether it is still listed.
func (r *compiled) end(a *active, group [monitor.MaxLabels]string, now time.Time) bool {
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

// OnTransition calls f with every change of an alert, in order, until stop is
// called. f runs within the evaluation: it must not block, and must not call
// [Engine.Evaluate].
func (e *Engine) OnTransition(f func(Transition)) (stop func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subscribers = append(slices.Clip(e.subscribers), &f)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.subscribers = slices.DeleteFunc(slices.Clone(e.subscribers),
			func(other *func(Transition)) bool { return other == &f })
	}
}

func (e *Engine) deliver(t Transition) {
	e.mu.Lock()
	subscribers := e.subscribers
	e.mu.Unlock()
	for _, f := range subscribers {
		(*f)(t)
	}
}
