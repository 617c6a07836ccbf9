package monitor_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/monitor"
	"github.com/withobsrvr/sluice/monitor/monitortest"
)

func load(service string, value float64) func(*monitor.Draft) {
	return func(d *monitor.Draft) {
		v := d.Service(service)
		v.Local, v.Load = true, value
	}
}

var highLoad = monitor.Condition{Metric: "flowctl_service_load_ratio", By: []string{"service_id"}, Threshold: 0.85}

// watched is a started monitor over a script, with its transitions recorded.
func watched(t *testing.T, cfg monitor.Config, script *monitortest.Script) (*monitor.Monitor, *monitortest.AlertRecorder) {
	t.Helper()
	cfg.Interval = time.Second
	m, err := monitor.New(cfg)
	require.NoError(t, err)
	m.Watch(script)
	recorder := &monitortest.AlertRecorder{}
	m.OnAlert(recorder.Record)
	m.Start()
	t.Cleanup(m.Stop)
	return m, recorder
}

func pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	synctest.Wait()
}

func TestAlertGoesThroughItsStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := monitortest.NewScript(load("sink", 0.5), load("sink", 0.9), load("sink", 0.5), load("sink", 0.9), load("sink", 0.5))
		m, recorder := watched(t, monitor.Config{Rules: []monitor.Rule{{
			Name: "High", Condition: highLoad, For: 10 * time.Second, KeepFiring: 5 * time.Second, Severity: monitor.Warning,
			Summary: "{{ $labels.service_id }} at {{ $value | humanizePercentage }}",
		}}}, script)
		pass(1500 * time.Millisecond)
		require.Empty(t, m.Alerts())
		script.Next() // 0.9
		pass(5 * time.Second)
		require.Equal(t, monitor.Pending, m.Alerts()[0].State)
		require.Equal(t, "sink at 90%", m.Alerts()[0].Summary)
		require.Equal(t, []monitor.AlertCount{{Name: "High", State: "pending", Severity: "warning", Count: 1}}, m.Snapshot().Alerts)
		pass(10 * time.Second)
		require.Equal(t, monitor.Firing, m.Alerts()[0].State)
		script.Next() // 0.5: kept
		pass(3 * time.Second)
		require.Equal(t, monitor.Firing, m.Alerts()[0].State)
		script.Next() // 0.9 again: still the same alert
		pass(10 * time.Second)
		script.Next() // 0.5 for good
		pass(10 * time.Second)
		require.Equal(t, monitor.Resolved, m.Alerts()[0].State)
		require.Equal(t, []string{
			`High{service_id="sink"} inactive -> pending`, `High{service_id="sink"} pending -> firing`, `High{service_id="sink"} firing -> resolved`,
		}, recorder.Lines())
		require.Equal(t, 10*time.Second, recorder.Transitions()[1].Time.Sub(recorder.Transitions()[0].Time))
		pass(16 * time.Minute)
		require.Empty(t, m.Alerts(), "a resolved alert is listed for 15 minutes")
	})
}

// TestAlertsSurviveJSON: what /alerts and /report say can be read back.
func TestAlertsSurviveJSON(t *testing.T) {
	for state := monitor.Inactive; state <= monitor.Resolved; state++ {
		text, err := json.Marshal(monitor.Alert{Rule: "A", State: state, Labels: monitor.Labels{{Name: "a", Value: "b"}}})
		require.NoError(t, err)
		var back monitor.Alert
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, state, back.State)
	}
	require.Error(t, json.Unmarshal([]byte(`{"state":"asleep"}`), new(monitor.Alert)))
}

func TestNoDataPolicies(t *testing.T) {
	for policy, want := range map[monitor.NoData]monitor.AlertState{
		monitor.NoDataResolve: monitor.Resolved, monitor.NoDataKeep: monitor.Firing, monitor.NoDataFire: monitor.Firing,
	} {
		synctest.Test(t, func(t *testing.T) {
			script := monitortest.NewScript(load("sink", 0.9), monitortest.Nothing)
			m, _ := watched(t, monitor.Config{Rules: []monitor.Rule{{Name: "High", Condition: highLoad, Severity: monitor.Warning, NoData: policy}}}, script)
			pass(2 * time.Second)
			require.Equal(t, monitor.Firing, m.Alerts()[0].State)
			script.Next()
			pass(2 * time.Second)
			states := map[string]monitor.AlertState{}
			for _, a := range m.Alerts() {
				states[a.Labels.Get("service_id")] = a.State
			}
			require.Equal(t, want, states["sink"])
			if policy == monitor.NoDataKeep {
				pass(monitor.NoDataPatience)
				require.Equal(t, monitor.Resolved, m.Alerts()[0].State, "a gap is bounded")
			}
		})
	}
}

// TestNoDataFireFromTheStart: what was never there fires too, once, and ends
// when the first number comes.
func TestNoDataFireFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		script := monitortest.NewScript(monitortest.Nothing, load("sink", 0.1))
		m, recorder := watched(t, monitor.Config{Rules: []monitor.Rule{{Name: "High", Condition: highLoad, Severity: monitor.Warning, NoData: monitor.NoDataFire}}}, script)
		pass(5 * time.Second)
		script.Next()
		pass(5 * time.Second)
		require.Equal(t, []string{`High{service_id=""} inactive -> firing`, `High{service_id=""} firing -> resolved`}, recorder.Lines())
		require.Len(t, m.Alerts(), 1)
	})
}

func TestAcknowledgeSilenceInhibit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := highLoad
		full.Threshold = 0.95
		script := monitortest.NewScript(load("sink", 0.9), load("sink", 0.99))
		m, recorder := watched(t, monitor.Config{Rules: []monitor.Rule{
			{Name: "High", Condition: highLoad, Severity: monitor.Warning},
			{Name: "Full", Condition: full, Severity: monitor.Critical, Inhibits: []string{"High"}, InhibitEqual: []string{"service_id"}},
		}}, script)
		pass(1500 * time.Millisecond)
		require.ErrorIs(t, m.Acknowledge("Full", nil, "ann"), monitor.ErrNoAlert)
		require.ErrorIs(t, m.Acknowledge("High", map[string]string{"service_id": "other"}, "ann"), monitor.ErrNoAlert)
		require.NoError(t, m.Acknowledge("High", map[string]string{"service_id": "sink"}, "ann"))
		require.Equal(t, "ann", m.Alerts()[0].Acknowledged)
		require.True(t, new(m.Alerts()[0]).Quiet())

		cancel := m.Silence(monitor.Silence{Match: map[string]string{"alertname": "Full", "severity": "critical"}, Until: time.Now().Add(time.Hour), By: "ann"})
		script.Next()
		pass(2 * time.Second)
		alerts := m.Alerts()
		require.Equal(t, "Full", alerts[0].Inhibited, "the alert that says less")
		require.True(t, alerts[1].Silenced)
		require.Equal(t, monitor.Firing, alerts[1].State)
		cancel()
		require.False(t, m.Alerts()[1].Silenced)
		last := recorder.Transitions()[len(recorder.Transitions())-1]
		require.Equal(t, "Full", last.Alert.Rule)
		require.True(t, last.Alert.Quiet())

		m.Silence(monitor.Silence{Match: map[string]string{"alertname": "Full"}, Until: time.Now().Add(time.Minute)})
		require.True(t, m.Alerts()[1].Silenced)
		pass(2 * time.Minute)
		require.False(t, m.Alerts()[1].Silenced, "a silence ends by itself")
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
		m, _ := watched(t, monitor.Config{}, script)
		told := func() (list []string) {
			for _, a := range m.Alerts() {
				if a.State == monitor.Firing && !a.Quiet() {
					list = append(list, a.Rule+a.Labels.String())
				}
			}
			return list
		}
		pass(3 * time.Minute)
		require.Equal(t, []string{`ServiceHighLoad{service_id="sink"}`, `BackpressureActive{}`}, told())
		pass(20 * time.Minute)
		require.Equal(t, []string{`FlowctlServiceSaturated{service_id="sink"}`, `FlowctlBackpressureStuck{}`}, told())
		for _, a := range m.Alerts() {
			if a.Labels.Get("service_id") == "source" {
				require.Equal(t, "sink", a.CausedBy)
			}
		}
	})
}

func TestRulesAreChecked(t *testing.T) {
	bad := []monitor.Rule{
		{Name: "lower", Severity: "loud", Condition: monitor.Condition{Metric: "flowctl_nothing"}, For: -1},
		{Name: "Twice", Severity: monitor.Info, Condition: highLoad, Summary: "{{ $labels.x | toUpper }}"},
		{Name: "Twice", Severity: monitor.Info, Condition: monitor.Condition{Func: monitor.Rate, Metric: "flowctl_throttle_rate"}, Inhibits: []string{"Unknown"}},
	}
	_, err := monitor.New(monitor.Config{Rules: bad})
	require.ErrorIs(t, err, monitor.ErrConfig)
	for _, part := range []string{"lower", "loud", "flowctl_nothing", ".For", "toUpper", "no other rule", "a counter and a Window", "Unknown"} {
		require.ErrorContains(t, err, part)
	}
}
