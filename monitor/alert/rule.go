package alert

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/withobsrvr/sluice/monitor"
)

// defaultRunbook is the page whose headings are the names of [DefaultRules].
const defaultRunbook = "https://github.com/withobsrvr/sluice/blob/main/docs/runbook.md"

// Func is how a condition gets its number from a family's samples. It is a
// closed set, so that the in-process engine and Prometheus can be proven equal.
type Func uint8

const (
	// Value is the sample itself.
	Value Func = iota
	// Ratio divides each sample by the sample of the family Over that has the
	// same labels; where that is not above 0 there is no number.
	Ratio
	// Rate is a counter's growth per second over Window.
	Rate
	// Increase is a counter's growth over Window.
	Increase
	// Absent is 1 while the family has no sample at all.
	Absent
)

// Aggregation joins the samples of one group.
type Aggregation uint8

const (
	// Max takes the largest: the same thing told by two processes counts once.
	Max Aggregation = iota
	// Min takes the smallest.
	Min
	// Sum adds up.
	Sum
)

// String returns the aggregation as PromQL writes it.
func (a Aggregation) String() string { return [...]string{"max", "min", "sum"}[a] }

// Comparison compares a group's number with the threshold.
type Comparison uint8

// The comparisons.
const (
	Above Comparison = iota
	AtLeast
	Below
	Equal
)

// String returns the comparison as PromQL writes it.
func (c Comparison) String() string { return [...]string{">", ">=", "<", "=="}[c] }

func (c Comparison) holds(v, threshold float64) bool {
	switch c {
	case Above:
		return v > threshold
	case AtLeast:
		return v >= threshold
	case Below:
		return v < threshold
	default:
		return v == threshold
	}
}

// Condition is what a rule looks at.
type Condition struct {
	Func Func
	// Metric is the Prometheus name of a family of the table, not a
	// [monitor.Distribution]; [Rate] and [Increase] want a [monitor.Counter].
	Metric string
	// Match keeps the samples with these label values only.
	Match map[string]string
	// Over is the divisor's family, for [Ratio].
	Over string
	// Window is how far [Rate] and [Increase] look back.
	Window time.Duration
	// By are the labels that make a group; Aggregate joins what falls into one.
	By        []string
	Aggregate Aggregation
	// Compare and Threshold say when the condition holds.
	Compare   Comparison
	Threshold float64
}

// Severity says how urgent an alert is.
type Severity string

// The severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// NoData says what becomes of an alert whose group has no number any more.
type NoData uint8

const (
	// NoDataResolve takes a missing number for a condition that does not hold,
	// as Prometheus does. A service that left takes its alerts along.
	NoDataResolve NoData = iota
	// NoDataKeep leaves the alert as it is for up to five minutes, as long as
	// Prometheus looks back for a sample: a gap is not a recovery.
	NoDataKeep
	// NoDataFire takes it for a condition that holds.
	NoDataFire
)

// noDataPatience is how long [NoDataKeep] keeps: as long as Prometheus looks
// back for a sample.
const noDataPatience = 5 * time.Minute

// Rule is one alert: a condition that must hold for a time.
type Rule struct {
	// Name in CamelCase; it is also the runbook's heading.
	Name      string
	Condition Condition
	// For is how long the condition must hold before the alert fires.
	// 0: it fires at once.
	For time.Duration
	// KeepFiring is how long it fires on after the condition ended.
	KeepFiring time.Duration
	Severity   Severity
	// Labels are added to those of the group.
	Labels map[string]string
	// Summary and Description are for people. They are templates of a closed
	// set: {{ $labels.NAME }}, {{ $value }} and
	// {{ $value | humanize }}, humanizePercentage or humanizeDuration.
	Summary, Description string
	// Runbook is the URL of what to do. Default: the heading Name of this
	// repository's runbook.
	Runbook string
	NoData  NoData
	// Inhibits names rules whose alerts say nothing new while one of this rule
	// fires with the same values of the labels InhibitEqual: subscribers see
	// them as inhibited, and the generated Alertmanager rules keep them back.
	Inhibits     []string
	InhibitEqual []string
	// ScrapeOnly rules are generated for Prometheus, which sees all processes,
	// and not evaluated in this one, which may well know only its own part.
	ScrapeOnly bool
	// Disabled rules are neither evaluated nor generated.
	Disabled bool
}

var (
	ruleName  = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)
	labelName = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)
)

// familyOf is the family of that very name, or nil: no rule looks at the parts
// of a histogram.
func familyOf(name string) *monitor.Family {
	f := monitor.FamilyOf(name)
	if f == nil || f.Name != name {
		return nil
	}
	return f
}

// validate joins all problems of a set of rules.
func validate(rules []Rule) error {
	var problems []error
	names := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		field := "Rules[" + r.Name + "]"
		bad := func(part, value, want string) {
			problems = append(problems, &monitor.Error{Field: field + part, Value: value, Want: want})
		}
		if !ruleName.MatchString(r.Name) {
			bad(".Name", r.Name, "CamelCase letters and digits")
		}
		if names[r.Name] {
			bad(".Name", r.Name, "a name that no other rule has")
		}
		names[r.Name] = true
		if r.For < 0 {
			bad(".For", r.For.String(), "0 or more")
		}
		if r.KeepFiring < 0 {
			bad(".KeepFiring", r.KeepFiring.String(), "0 or more")
		}
		switch r.Severity {
		case Info, Warning, Critical:
		default:
			bad(".Severity", string(r.Severity), "info, warning or critical")
		}
		if r.NoData > NoDataFire {
			bad(".NoData", strconv.Itoa(int(r.NoData)), "a constant of NoData")
		}
		for name := range r.Labels {
			if !labelName.MatchString(name) || name == "severity" || name == "alertname" {
				bad(".Labels", name, "a label name other than severity and alertname")
			}
		}
		for _, text := range []string{r.Summary, r.Description} {
			if err := checkTemplate(text); err != nil {
				bad(".Summary or Description", text, err.Error())
			}
		}
		r.Condition.validate(bad)
	}
	for i := range rules {
		for _, name := range rules[i].Inhibits {
			if !names[name] || name == rules[i].Name {
				problems = append(problems, &monitor.Error{
					Field: "Rules[" + rules[i].Name + "].Inhibits", Value: name,
					Want: "the name of another rule",
				})
			}
		}
	}
	return errors.Join(problems...)
}

func (c *Condition) validate(bad func(part, value, want string)) {
	f := familyOf(c.Metric)
	switch {
	case f == nil || f.Kind == monitor.Distribution:
		bad(".Condition.Metric", c.Metric, "a family of the table that is no histogram")
		return
	case c.Func > Absent:
		bad(".Condition.Func", strconv.Itoa(int(c.Func)), "a constant of Func")
	case (c.Func == Rate || c.Func == Increase) && (f.Kind != monitor.Counter || c.Window <= 0):
		bad(".Condition.Metric", c.Metric, "a counter and a Window above 0")
	case c.Func == Ratio && (familyOf(c.Over) == nil || !slices.Equal(familyOf(c.Over).Labels, f.Labels)):
		bad(".Condition.Over", c.Over, "a family with the labels of "+c.Metric)
	}
	if c.Aggregate > Sum || c.Compare > Equal {
		bad(".Condition", fmt.Sprint(c.Aggregate > Sum, c.Compare > Equal), "constants of Aggregation and Comparison")
	}
	for _, name := range slices.Concat(c.By, slices.Collect(maps.Keys(c.Match))) {
		if !slices.Contains(f.Labels, name) {
			bad(".Condition", name, "a label of "+c.Metric)
		}
	}
	if c.Func == Absent && len(c.By) > 0 {
		bad(".Condition.By", strings.Join(c.By, ","), "none for Absent")
	}
}

// PromQL returns the condition as Prometheus evaluates it.
func (c *Condition) PromQL() string {
	selector := c.Metric
	if len(c.Match) > 0 {
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(c.Match)) {
			pairs = append(pairs, name+"="+strconv.Quote(c.Match[name]))
		}
		selector += "{" + strings.Join(pairs, ",") + "}"
	}
	switch c.Func {
	case Absent:
		return "absent(" + selector + ")"
	case Ratio:
		selector += " / (" + c.Over + strings.TrimPrefix(selector, c.Metric) + " > 0)"
	case Rate:
		selector = "rate(" + selector + "[" + promDuration(c.Window) + "])"
	case Increase:
		selector = "increase(" + selector + "[" + promDuration(c.Window) + "])"
	}
	by := ""
	if len(c.By) > 0 {
		by = " by (" + strings.Join(c.By, ", ") + ") "
	}
	return fmt.Sprintf("%s%s(%s) %s %s", c.Aggregate, by, selector, c.Compare,
		strconv.FormatFloat(c.Threshold, 'g', -1, 64))
}

// promDuration writes a duration as Prometheus reads it.
func promDuration(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	var b strings.Builder
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / unit.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.size
		}
	}
	return cmp.Or(b.String(), "1ms")
}

// RunbookURL returns where it says what to do about the rule.
func (r *Rule) RunbookURL() string {
	return cmp.Or(r.Runbook, defaultRunbook+"#"+strings.ToLower(r.Name))
}
