package alert

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
	"github.com/withobsrvr/sluice/monitor"
)

// promtool is the judge, and what it thinks differently from the present version.
func promtool(t *testing.T) (judge string, follow func(*Engine)) {
	t.Helper()
	judge = testenv.Require(t, "promtool", "prometheus")
	text, err := exec.CommandContext(t.Context(), judge, "--version").CombinedOutput()
	require.NoError(t, err)
	var major, minor int
	_, version, _ := strings.Cut(string(text), "version ")
	_, err = fmt.Sscanf(version, "%d.%d", &major, &minor)
	require.NoError(t, err, "%s", text)
	return judge, func(e *Engine) {
		e.past.closed = major < 3
		e.past.eagerly = major < 3 && minor < 52
	}
}

// randomRules are one of every kind of condition several times over.
func randomRules(r *rand.Rand) (rules []Rule) {
	pick := func(n int) int { return r.IntN(n) }
	for i := range 60 {
		c := Condition{
			Func: Func(i % 5), Aggregate: Aggregation(pick(3)), Compare: Comparison(pick(4)), Threshold: float64(pick(4)),
		}
		switch c.Func {
		case Value:
			c.Metric = "flowctl_service_load_ratio"
		case Ratio:
			c.Metric, c.Over = "flowctl_pool_healthy_connections", "flowctl_pool_wanted_connections"
			c.Threshold = float64(pick(4)) / 4
		case Rate, Increase:
			c.Metric, c.Window = "flowctl_edge_events_total", time.Duration(1+pick(12))*10*time.Second
			if c.Func == Rate {
				c.Threshold /= 15
			}
			if c.Aggregate == Sum { // in which order Prometheus adds is its own affair
				c.Threshold += 1e-6
			}
		case Absent:
			c.Metric, c.Aggregate, c.Compare, c.Threshold = "flowctl_service_streams", Max, Above, 0
		}
		labels := familyOf(c.Metric).Labels
		if c.Func != Absent {
			c.By = slices.Clone(labels[:pick(len(labels)+1)])
		}
		if pick(3) == 0 {
			c.Match = map[string]string{labels[0]: "a"}
		}
		rules = append(rules, Rule{
			Name: fmt.Sprintf("R%02d%sOf%s", i, c.Aggregate, [...]string{
				"Value", "Ratio", "Rate", "Increase",
				"Absent",
			}[c.Func]), Condition: c, Severity: Warning,
			For: time.Duration(pick(4)) * 15 * time.Second, KeepFiring: time.Duration(pick(3)/2*(1+pick(3))) * 15 * time.Second,
		})
	}
	return rules
}

// randomSeries of every family that the rules name: values that flap, gaps,
// resets of counters, NaN where a value may be one.
func randomSeries(r *rand.Rand, steps int) (all []input) {
	for _, name := range []string{
		"flowctl_service_load_ratio", "flowctl_pool_healthy_connections", "flowctl_pool_wanted_connections",
		"flowctl_edge_events_total", "flowctl_service_streams",
	} {
		family := monitor.FamilyOf(name)
		for _, id := range []string{"a", "b"} {
			in := input{family: family}
			for i := range family.Labels {
				in.labels[i] = id
			}
			present, total := r.IntN(2) == 0, float64(r.IntN(5))
			for range steps {
				if r.IntN(6) == 0 {
					present = !present
				}
				value := float64(r.IntN(5))
				if family.Kind == monitor.Counter {
					if r.IntN(9) == 0 {
						total = float64(r.IntN(3))
					} else if r.IntN(2) == 0 {
						total += value
					}
					value = total
				}
				if r.IntN(25) == 0 {
					value = notANumber
				}
				if !present {
					value = stale
				}
				in.values = append(in.values, value)
			}
			all = append(all, in)
		}
	}
	return all
}

var notANumber = math.NaN()

func (in *input) random() string {
	var b strings.Builder
	for _, v := range in.values {
		if (step{value: v}).absent() {
			b.WriteString("stale ")
		} else {
			b.WriteString(strconv.FormatFloat(v, 'g', -1, 64) + " ")
		}
	}
	return strings.TrimSpace(b.String())
}

// TestRandomSeriesAgainstPromtool: random rules over random series come to the
// same states at the same times in the engine and in Prometheus.
func TestRandomSeriesAgainstPromtool(t *testing.T) {
	judge, follow := promtool(t)
	r := rand.New(rand.NewPCG(3, 7))
	rules := randomRules(r)
	require.NoError(t, validate(rules))
	dir := t.TempDir()
	var file strings.Builder
	file.WriteString("groups:\n  - name: random\n    rules:\n")
	for i := range rules {
		fmt.Fprintf(&file, "      - alert: %s\n        expr: %q\n        for: %s\n"+
			"        keep_firing_for: %s\n        labels: {severity: warning}\n",
			rules[i].Name, rules[i].Condition.PromQL(), promDuration(rules[i].For), promDuration(rules[i].KeepFiring))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(file.String()), 0o600))

	var b strings.Builder
	b.WriteString("rule_files: [rules.yaml]\nevaluation_interval: 15s\ntests:\n")
	const steps = 40
	seen := map[string]bool{}
	tests := 15
	if testing.Short() {
		tests = 5
	}
	for test := range tests {
		all := randomSeries(r, steps)
		e := newEngine(rules)
		follow(e)
		fmt.Fprintf(&b, "  - name: random %d\n    interval: 15s\n    input_series:\n", test)
		for _, in := range all {
			fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", in.selector(), in.random())
		}
		b.WriteString("    promql_expr_test:\n")
		for at := range steps {
			now := time.Unix(0, 0).Add(time.Duration(at) * evaluation)
			e.evaluate(now, func(f *monitor.Family, emit func([monitor.MaxLabels]string, float64)) {
				for _, in := range all {
					if in.family == f && !(step{value: in.values[at]}).absent() {
						emit(in.labels, in.values[at])
					}
				}
			})
			lines, firing := alertsNow(e, now)
			for _, a := range firing {
				seen[a.Rule] = true
			}
			fmt.Fprintf(&b, "      - expr: ALERTS\n        eval_time: %ds\n        exp_samples:\n", at*15)
			for _, line := range lines {
				fmt.Fprintf(&b, "          - labels: '%s'\n            value: 1\n", line)
			}
		}
	}
	require.Greater(t, len(seen), 25, "rules that fire at some time")
	name := filepath.Join(dir, "tests.yaml")
	require.NoError(t, os.WriteFile(name, []byte(b.String()), 0o600))
	out, err := exec.CommandContext(t.Context(), judge, "test", "rules", name).CombinedOutput()
	require.NoError(t, err, "%s", tail(string(out)))
}

// TestIncreaseToTheLastBit are two series on which the engine once differed, as
// the present Prometheus and an older one extrapolate them.
func TestIncreaseToTheLastBit(t *testing.T) {
	rate := func(window time.Duration, per float64, eagerly bool, values ...float64) float64 {
		p := past{keep: time.Hour, closed: eagerly, eagerly: eagerly}
		p.series = map[*monitor.Family]*kept{nil: {window: time.Hour, series: map[[monitor.MaxLabels]string]*series{}}}
		now := time.Unix(0, 0)
		for i, v := range values {
			now = time.Unix(0, 0).Add(time.Duration(i) * evaluation)
			p.record(now, func(_ *monitor.Family, emit func([monitor.MaxLabels]string, float64)) {
				emit([monitor.MaxLabels]string{}, v)
			})
		}
		growth, ok := p.increase(p.series[nil].series[[monitor.MaxLabels]string{}], now, window, per)
		require.True(t, ok)
		return growth
	}
	require.Less(t, rate(time.Minute, 60, true, 100, 100, 100, 100, 123), 0.38333333333333336)
	require.Equal(t, 7.0, rate(40*time.Second, 1, true, 3, 7), "as before 2.52: the counter was 0 within the window")
	require.Equal(t, 6.0, rate(40*time.Second, 1, false, 3, 7), "half a step at most where the series begins inside")
}
