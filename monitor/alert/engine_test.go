package alert_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/monitortest"
)

func load(service string, value float64) func(*monitor.Draft) {
	return func(d *monitor.Draft) {
		v := d.Service(service)
		v.Local, v.Load = true, value
	}
}

var highLoad = alert.Condition{Metric: "flowctl_service_load_ratio", By: []string{"service_id"}, Threshold: 0.85}

// watched is an engine that watches a started monitor over a script, with its
// transitions recorded.
func watched(t *testing.T, rules []alert.Rule, script *monitortest.Script) (*alert.Engine, *monitor.Monitor,
	*monitortest.AlertRecorder,
) {
	t.Helper()
	m, err := monitor.New(monitor.Config{Interval: time.Second})
	require.NoError(t, err)
	m.Watch(script)
	e, err := alert.New(alert.Config{Rules: rules})
	require.NoError(t, err)
	e.Watch(m)
	recorder := &monitortest.AlertRecorder{}
	e.OnTransition(recorder.Record)
	m.Start()
	t.Cleanup(m.Stop)
	return e, m, recorder
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func TestAlertGoesThroughItsStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := monitortest.NewScript(load("sink", 0.5), load("sink", 0.9), load("sink", 0.5), load("sink", 0.9),
			load("sink", 0.5))
		e, m, recorder := watched(t, []alert.Rule{{
			Name: "High", Condition: highLoad, For: 10 * time.Second, KeepFiring: 5 * time.Second, Severity: alert.Warning,
			Summary: "{{ $labels.service_id }} at {{ $value | humanizePercentage }}",
		}}, script)
		pass(1500 * time.Millisecond)
		require.Empty(t, e.Alerts())
		script.Next() // 0.9
		pass(5 * time.Second)
		require.Equal(t, alert.Pending, e.Alerts()[0].State)
		require.Equal(t, "sink at 90%", e.Alerts()[0].Summary)
		require.Equal(t, []monitor.AlertCount{{Name: "High", State: "pending", Severity: "warning", Count: 1}},
			m.Snapshot().Alerts)
		pass(10 * time.Second)
		require.Equal(t, alert.Firing, e.Alerts()[0].State)
		script.Next() // 0.5: kept
		pass(3 * time.Second)
		require.Equal(t, alert.Firing, e.Alerts()[0].State)
		script.Next() // 0.9 again: still the same alert
		pass(10 * time.Second)
		script.Next() // 0.5 for good
		pass(10 * time.Second)
		require.Equal(t, alert.Resolved, e.Alerts()[0].State)
		require.Equal(t, []string{
			`High{service_id="sink"} inactive -> pending`, `High{service_id="sink"} pending -> firing`,
			`High{service_id="sink"} firing -> resolved`,
		}, recorder.Lines())
		require.Equal(t, 10*time.Second, recorder.Transitions()[1].Time.Sub(recorder.Transitions()[0].Time))
		pass(16 * time.Minute)
		require.Empty(t, e.Alerts(), "a resolved alert is listed for 15 minutes")
	})
}

// TestAlertsSurviveJSON: what /alerts and /report say can be read back.
func TestAlertsSurviveJSON(t *testing.T) {
	for state := alert.Inactive; state <= alert.Resolved; state++ {
		text, err := json.Marshal(alert.Alert{Rule: "A", State: state, Labels: alert.Labels{"a": "b"}})
		require.NoError(t, err)
		var back alert.Alert
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, state, back.State)
	}
	require.Error(t, json.Unmarshal([]byte(`{"state":"asleep"}`), new(alert.Alert)))
}

func TestNoDataPolicies(t *testing.T) {
	for policy, want := range map[alert.NoData]alert.State{
		alert.NoDataResolve: alert.Resolved, alert.NoDataKeep: alert.Firing, alert.NoDataFire: alert.Firing,
	} {
		synctest.Test(t, func(t *testing.T) {
			script := monitortest.NewScript(load("sink", 0.9), monitortest.Nothing)
			e, _, _ := watched(t, []alert.Rule{{Name: "High", Condition: highLoad, Severity: alert.Warning, NoData: policy}},
				script)
			pass(2 * time.Second)
			require.Equal(t, alert.Firing, e.Alerts()[0].State)
			script.Next()
			pass(2 * time.Second)
			states := map[string]alert.State{}
			for _, a := range e.Alerts() {
				states[a.Labels["service_id"]] = a.State
			}
			require.Equal(t, want, states["sink"])
			if policy == alert.NoDataKeep {
				pass(5 * time.Minute)
				require.Equal(t, alert.Resolved, e.Alerts()[0].State, "a gap is bounded")
			}
		})
	}
}

// TestNoDataFireFromTheStart: what was never there fires too, once, and ends
// when the first number comes.
func TestNoDataFireFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := monitortest.NewScript(monitortest.Nothing, load("sink", 0.1))
		e, _, recorder := watched(t, []alert.Rule{{
			Name: "High", Condition: highLoad, Severity: alert.Warning,
			NoData: alert.NoDataFire,
		}}, script)
		pass(5 * time.Second)
		script.Next()
		pass(5 * time.Second)
		require.Equal(t, []string{`High{service_id=""} inactive -> firing`, `High{service_id=""} firing -> resolved`},
			recorder.Lines())
		require.Len(t, e.Alerts(), 1)
	})
}

func TestAcknowledgeSilenceInhibit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := highLoad
		full.Threshold = 0.95
		script := monitortest.NewScript(load("sink", 0.9), load("sink", 0.99))
		e, _, recorder := watched(t, []alert.Rule{
			{Name: "High", Condition: highLoad, Severity: alert.Warning},
			{
				Name: "Full", Condition: full, Severity: alert.Critical, Inhibits: []string{"High"},
				InhibitEqual: []string{"service_id"},
			},
		}, script)
		pass(1500 * time.Millisecond)
		require.ErrorIs(t, e.Acknowledge("Full", nil, "ann"), alert.ErrNoAlert)
		require.ErrorIs(t, e.Acknowledge("High", map[string]string{"service_id": "other"}, "ann"), alert.ErrNoAlert)
		require.NoError(t, e.Acknowledge("High", map[string]string{"service_id": "sink"}, "ann"))
		require.Equal(t, "ann", e.Alerts()[0].Acknowledged)
		require.True(t, new(e.Alerts()[0]).Quiet())

		cancel := e.Silence(alert.Silence{
			Match: map[string]string{"alertname": "Full", "severity": "critical"},
			Until: time.Now().Add(time.Hour), By: "ann",
		})
		script.Next()
		pass(2 * time.Second)
		alerts := e.Alerts()
		require.Equal(t, "Full", alerts[0].Inhibited, "the alert that says less")
		require.True(t, alerts[1].Silenced)
		require.Equal(t, alert.Firing, alerts[1].State)
		cancel()
		require.False(t, e.Alerts()[1].Silenced)
		last := recorder.Transitions()[len(recorder.Transitions())-1]
		require.Equal(t, "Full", last.Alert.Rule)
		require.True(t, last.Alert.Quiet())

		e.Silence(alert.Silence{Match: map[string]string{"alertname": "Full"}, Until: time.Now().Add(time.Minute)})
		require.True(t, e.Alerts()[1].Silenced)
		pass(2 * time.Minute)
		require.False(t, e.Alerts()[1].Silenced, "a silence ends by itself")
	})
}

// TestDefaultRulesDoNotFireTwice plays one slow sink that fills a whole chain:
// what is told names the cause once, and the pipeline's state once.
func TestDefaultRulesDoNotFireTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		script := monitortest.NewScript(func(d *monitor.Draft) {
			p := d.Pipeline()
			p.Active, p.Load, p.ActivateAt, p.RecoverAt, p.Activations = true, 0.99, 0.8, 0.6, 1
			p.ActiveTime, p.Latency = time.Since(began), time.Minute
			load("source", 0.97)(d)
			load("sink", 0.99)(d)
			d.Service("sink").Upstreams = []string{"source"}
			e := d.Edge("source", "sink")
			e.Counted, e.Blocked = true, time.Since(began)
		})
		e, _, _ := watched(t, nil, script)
		told := func() (list []string) {
			for _, a := range e.Alerts() {
				if a.State == alert.Firing && !a.Quiet() {
					list = append(list, a.Rule+a.Labels.String())
				}
			}
			return list
		}
		pass(3 * time.Minute)
		require.Equal(t, []string{`ServiceHighLoad{service_id="sink"}`, `BackpressureActive{}`}, told())
		pass(20 * time.Minute)
		require.Equal(t, []string{`FlowctlServiceSaturated{service_id="sink"}`, `FlowctlBackpressureStuck{}`}, told())
		for _, a := range e.Alerts() {
			if a.Labels["service_id"] == "source" {
				require.Equal(t, "sink", a.CausedBy)
			}
		}
	})
}

// TestTextsDoNotRunAhead of the clock: a pending alert is listed with its texts
// too, and "for 5 minutes" would then be said after seconds.
func TestTextsDoNotRunAhead(t *testing.T) {
	for _, r := range alert.DefaultRules() {
		if r.For == 0 {
			continue
		}
		for _, text := range []string{r.Summary, r.Description} {
			for _, claim := range []string{
				"for 2 minutes", "for 5 minutes", "for 30 seconds", "for 15 seconds", "for a minute",
				"for 1 minute",
			} {
				require.NotContains(t, text, claim, r.Name)
			}
		}
	}
}

func TestRulesAreChecked(t *testing.T) {
	bad := []alert.Rule{
		{Name: "lower", Severity: "loud", Condition: alert.Condition{Metric: "flowctl_nothing"}, For: -1},
		{Name: "Twice", Severity: alert.Info, Condition: highLoad, Summary: "{{ $labels.x | toUpper }}"},
		{
			Name: "Twice", Severity: alert.Info, Condition: alert.Condition{Func: alert.Rate, Metric: "flowctl_throttle_rate"},
			Inhibits: []string{"Unknown"},
		},
	}
	_, err := alert.New(alert.Config{Rules: bad})
	require.ErrorIs(t, err, monitor.ErrConfig)
	for _, part := range []string{
		"lower", "loud", "flowctl_nothing", ".For", "toUpper", "no other rule",
		"a counter and a Window", "Unknown",
	} {
		require.ErrorContains(t, err, part)
	}
}
