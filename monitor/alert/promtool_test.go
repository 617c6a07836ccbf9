package alert

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
)

const evaluation = 15 * time.Second

// input is one series, a value at each evaluation; NaN is no sample.
type input struct {
	family *monitor.Family
	labels [monitor.MaxLabels]string
	values []float64
}

// play makes series that bring a rule through all its states: a flap that is
// too short, a full alert, a gap, a counter's reset and a second alert.
func play(r *Rule) []input {
	steps := int(r.For / evaluation)
	tail := int(r.Condition.Window/evaluation) + 8
	var phases []string
	add := func(phase string, n int) { phases = append(phases, slices.Repeat([]string{phase}, n)...) }
	add("good", 3)
	add("bad", max(1, steps-1))
	add("good", tail)
	add("bad", steps+6)
	if r.NoData == NoDataResolve {
		add("gone", 4)
		add("bad", steps+4)
	}
	add("good", tail)

	c := &r.Condition
	family := familyOf(c.Metric)
	labels := func(value string) (l [monitor.MaxLabels]string) {
		for i, name := range family.Labels {
			l[i] = value
			if want, ok := c.Match[name]; ok {
				l[i] = want
			}
		}
		return l
	}
	quiet := input{family, labels("quiet"), nil}
	loud := input{family, labels("loud"), nil}
	over := input{familyOf(c.Over), loud.labels, nil}
	total := 0.0
	for _, phase := range phases {
		value := 0.0
		bad := phase == "bad"
		switch c.Func {
		case Value:
			value = c.Threshold * 0.5
			if c.Compare == Equal {
				value = c.Threshold + 1
			}
			if bad && c.Compare == Equal {
				value = c.Threshold
			} else if bad {
				value = c.Threshold*1.1 + 0.01
			}
		case Ratio:
			value = 3
			if bad {
				value = 1
			}
			over.values = append(over.values, 4)
		case Rate:
			if bad {
				total += 1.5 * c.Threshold * evaluation.Seconds()
			}
			value = total
		case Increase:
			if bad {
				total += c.Threshold + 1
			}
			value = total
		case Absent:
			if bad {
				value = math.NaN()
			}
		}
		if phase == "gone" {
			value, total = math.NaN(), 0
		}
		loud.values = append(loud.values, value)
		calm := 0.0
		if c.Func == Ratio {
			calm = math.NaN() // without a divisor there is no number
		} else if c.Compare == Equal {
			calm = c.Threshold + 1
		}
		quiet.values = append(quiet.values, calm)
	}
	series := []input{loud}
	if len(c.By) > 0 && c.Func != Ratio {
		series = append(series, quiet)
	}
	if c.Func == Ratio {
		series = append(series, over)
	}
	return series
}

func (in *input) notation() string {
	var b strings.Builder
	for _, v := range in.values {
		if math.IsNaN(v) {
			b.WriteString("stale ")
		} else {
			b.WriteString(strconv.FormatFloat(v, 'g', -1, 64) + " ")
		}
	}
	return strings.TrimSpace(b.String())
}

func (in *input) selector() string {
	var pairs []string
	for i, name := range in.family.Labels {
		pairs = append(pairs, fmt.Sprintf("%s=%q", name, in.labels[i]))
	}
	return in.family.Name + "{" + strings.Join(append(pairs, `instance="one"`), ",") + "}"
}

// alertsNow writes the engine's alerts as Prometheus' ALERTS series.
func alertsNow(e *Engine, now time.Time) (lines []string, firing []Alert) {
	for _, a := range e.alerts(now) {
		if a.State != Pending && a.State != Firing {
			continue
		}
		pairs := []string{
			fmt.Sprintf("alertname=%q", a.Rule), fmt.Sprintf("alertstate=%q", a.State),
			fmt.Sprintf("severity=%q", a.Severity),
		}
		for name, value := range a.Labels {
			pairs = append(pairs, fmt.Sprintf("%s=%q", name, value))
		}
		slices.Sort(pairs)
		lines = append(lines, "ALERTS{"+strings.Join(pairs, ",")+"}")
		if a.State == Firing {
			firing = append(firing, a)
		}
	}
	return lines, firing
}

// TestEngineAgreesWithPromtool drives every shipped rule through all its states
// in the in-process engine, writes what it did at each evaluation as a promtool
// unit test of the generated rules, and lets promtool judge. So the same series
// give the same states at the same times, and the same texts.
func TestEngineAgreesWithPromtool(t *testing.T) {
	judge, follow := promtool(t)
	rules, err := filepath.Abs("../mixin/alerts.yaml")
	require.NoError(t, err)

	var b strings.Builder
	fmt.Fprintf(&b, "rule_files: [%q]\nevaluation_interval: 15s\ntests:\n", rules)
	all := DefaultRules()
	for i := range all {
		r := &all[i]
		series := play(r)
		e := newEngine(all)
		follow(e)
		fmt.Fprintf(&b, "  - name: %s\n    interval: 15s\n    input_series:\n", r.Name)
		for _, in := range series {
			if !slices.ContainsFunc(in.values, func(v float64) bool { return !math.IsNaN(v) }) {
				continue
			}
			fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", in.selector(), in.notation())
		}
		b.WriteString("    promql_expr_test:\n")
		texts, states := map[string]string{}, map[State]int{}
		for step := range series[0].values {
			now := time.Unix(0, 0).Add(time.Duration(step) * evaluation)
			for _, transition := range e.evaluate(now, func(f *monitor.Family, emit func([monitor.MaxLabels]string, float64)) {
				for _, in := range series {
					if in.family == f && !math.IsNaN(in.values[step]) {
						emit(in.labels, in.values[step])
					}
				}
			}) {
				if transition.Alert.Rule == r.Name {
					states[transition.To]++
				}
			}
			lines, firing := alertsNow(e, now)
			fmt.Fprintf(&b, "      - expr: ALERTS\n        eval_time: %ds\n        exp_samples:\n", step*15)
			for _, line := range lines {
				fmt.Fprintf(&b, "          - labels: '%s'\n            value: 1\n", line)
			}
			for _, a := range firing {
				if a.Rule != r.Name || texts[a.Rule] != "" {
					continue
				}
				var text strings.Builder
				fmt.Fprintf(&text, "      - eval_time: %ds\n        alertname: %s\n        exp_alerts:\n"+
					"          - exp_labels:\n              severity: %s\n", step*15, a.Rule, a.Severity)
				for name, value := range a.Labels {
					fmt.Fprintf(&text, "              %s: %q\n", name, value)
				}
				fmt.Fprintf(&text, "            exp_annotations:\n              summary: %q\n"+
					"              description: %q\n              runbook_url: %q\n", a.Summary, a.Description, a.Runbook)
				texts[a.Rule] = text.String()
			}
		}
		require.NotEmpty(t, texts[r.Name], "%s never fired", r.Name)
		require.GreaterOrEqual(t, states[Firing], 1, r.Name)
		require.GreaterOrEqual(t, states[Resolved], 1, r.Name)
		if r.For > 0 {
			require.GreaterOrEqual(t, states[Pending], 1, r.Name)
		}
		b.WriteString("    alert_rule_test:\n" + texts[r.Name])
	}
	file := filepath.Join(t.TempDir(), "alerts_test.yaml")
	require.NoError(t, os.WriteFile(file, []byte(b.String()), 0o600))
	out, err := exec.CommandContext(t.Context(), judge, "test", "rules", file).CombinedOutput()
	require.NoError(t, err, "%s", tail(string(out)))
}

func tail(text string) string {
	if len(text) > 6000 {
		return text[:6000]
	}
	return text
}
