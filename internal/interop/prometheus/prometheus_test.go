package prometheus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/testenv"
	"github.com/withobsrvr/sluice/monitor/alert"
	"github.com/withobsrvr/sluice/monitor/health"
	"github.com/withobsrvr/sluice/monitor/mixin"
)

// handbook are the names that users of the system have in their dashboards.
var handbook = []string{
	"flowctl_pipeline_throughput_total", "flowctl_pipeline_latency_seconds", "flowctl_backpressure_active",
	"flowctl_throttle_rate",
	"flowctl_service_load_ratio", "flowctl_service_connections", "flowctl_service_discovery_duration_seconds_count",
	"flowctl_reconnection_events_total", "flowctl_pool_total_connections", "flowctl_pool_healthy_connections",
	"flowctl_pool_idle_connections", "flowctl_service_throughput", "flowctl_service_queue_depth",
}

// hold replaces the 30 s of BackpressureActive, to keep the run short. The
// shipped durations are judged by promtool, in package alert.
const hold = 8 * time.Second

// TestBackpressureActiveForReal: pending, firing, resolved, in Prometheus and at
// a receiver behind Alertmanager.
func TestBackpressureActiveForReal(t *testing.T) {
	prometheusPath := testenv.Require(t, "prometheus", "prometheus")
	alertmanagerPath := testenv.Require(t, "prometheus-alertmanager", "prometheus-alertmanager")
	dir := t.TempDir()
	binary := filepath.Join(dir, "pipeline")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./pipeline")
	build.Dir = filepath.Join("..", "..", "..", "examples")
	build.Env = append(os.Environ(), "GOWORK=", "GOFLAGS=-buildvcs=false")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // a guard against hanging, not a bar
	defer cancel()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}

	// Everybody picks a free port and says which: one that was free a moment
	// ago may be somebody's by the time it is asked for.
	delay := write("delay", "200ms")
	pipeline := start(
		t,
		dir,
		[]string{"SINK_DELAY_FILE=" + delay, "MONITORING_INTERVAL=1s"},
		binary,
		"-ledgers=1000000",
		"-verify=false",
		"-ports=auto",
		"-out="+filepath.Join(dir, "out"),
	)
	targets := []string{said(t, ctx, pipeline, `live topology at http://(\S+)/`)}
	for _, name := range []string{"stellar-arrow-source", "ttp-arrow-processor", "arrow-analytics-sink"} {
		targets = append(targets, said(t, ctx, pipeline, name+` at \S+, metrics at http://(\S+)/metrics`))
	}

	told := &receiver{}
	hook := httptest.NewServer(told)
	defer hook.Close()
	rules := alert.DefaultRules()
	for i := range rules {
		if rules[i].Name == "BackpressureActive" {
			rules[i].For = hold
		}
	}
	amConfig := write("alertmanager.yml", fmt.Sprintf(`
route: {receiver: test, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: '%s', send_resolved: true}]}]
%s`, hook.URL, mixin.Inhibitions(rules)))
	const listening = `msg="Listening on" address=(\S+)`
	alertmanager := said(
		t,
		ctx,
		start(t, dir, nil, alertmanagerPath, "--config.file="+amConfig, "--storage.path="+filepath.Join(dir, "am"),
			"--web.listen-address=127.0.0.1:0", "--cluster.listen-address="),
		listening,
	)

	write("alerts.yaml", string(mixin.Alerts(rules)))
	promConfig := write("prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [alerts.yaml]
alerting: {alertmanagers: [{static_configs: [{targets: ['%s']}]}]}
scrape_configs:
  - job_name: flowctl
    static_configs: [{targets: ['%s']}]
`, alertmanager, strings.Join(targets, "','")))
	prometheusURL := "http://" + said(t, ctx, start(t, dir, nil, prometheusPath, "--config.file="+promConfig,
		"--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address=127.0.0.1:0"), listening)

	until(t, ctx, "BackpressureActive fires in Prometheus", func() bool {
		return alertState(ctx, prometheusURL, "BackpressureActive") == "firing"
	})
	until(
		t,
		ctx,
		"Alertmanager tells the receiver",
		func() bool { return slices.Contains(told.list(), "BackpressureActive firing") },
	)
	require.Positive(
		t,
		count(ctx, prometheusURL, `last_over_time(ALERTS{alertname="BackpressureActive",alertstate="pending"}[1h])`),
		"it was pending before",
	)
	// On a busy machine a scrape may miss its second, and what it would have
	// brought is absent until the next one: what follows is true in the end.
	until(t, ctx, "one alert for one cause, whoever exports what", func() bool {
		return activeInAlertmanager(ctx, "http://"+alertmanager, "BackpressureActive") == 1
	})
	for _, name := range handbook {
		until(
			t,
			ctx,
			name+", a family of the handbook, is exported",
			func() bool { return count(ctx, prometheusURL, name) > 0 },
		)
	}
	for query, want := range map[string]float64{
		"flowctl_pipeline_throughput_per_second": 1, // by the decider alone
		"flowctl_service_load_ratio":             3, // each service once
		"up == 1":                                4,
	} {
		until(
			t,
			ctx,
			fmt.Sprintf("%s has %v series", query, want),
			func() bool { return count(ctx, prometheusURL, query) == want },
		)
	}
	until(t, ctx, "the sink's measurement is the pipeline's latency", func() bool {
		var report health.Report
		text, err := fetch(ctx, "http://"+targets[0]+"/report")
		return err == nil && json.Unmarshal(text, &report) == nil && report.Performance.LatencyMeasured
	})
	for _, target := range targets {
		checkMetrics(t, ctx, "http://"+target+"/metrics")
	}

	// At full speed the next activation may follow soon: the alert that fired
	// has ended all the same as soon as it is not firing.
	require.NoError(t, os.WriteFile(delay, []byte("0"), 0o600))
	until(t, ctx, "BackpressureActive resolves in Prometheus", func() bool {
		state := alertState(ctx, prometheusURL, "BackpressureActive")
		return state == "inactive" || state == "pending"
	})
	until(
		t,
		ctx,
		"the receiver hears of it",
		func() bool { return slices.Contains(told.list(), "BackpressureActive resolved") },
	)
}

// checkMetrics lints what a process of the pipeline exports of ours.
func checkMetrics(t *testing.T, ctx context.Context, address string) {
	t.Helper()
	promtool := testenv.Require(t, "promtool", "prometheus")
	text, err := fetch(ctx, address)
	require.NoError(t, err)
	command := exec.CommandContext(ctx, promtool, "check", "metrics")
	command.Stdin = strings.NewReader(string(text))
	out, _ := command.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "flowctl_") && !strings.HasPrefix(line, "flowctl_pipeline_throughput_total ") {
			t.Errorf("%s: %s", address, line)
		}
	}
}

// receiver is Alertmanager's webhook.
type receiver struct {
	mu   sync.Mutex
	seen []string
}

func (r *receiver) ServeHTTP(_ http.ResponseWriter, request *http.Request) {
	var message struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if json.NewDecoder(request.Body).Decode(&message) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range message.Alerts {
		r.seen = append(r.seen, a.Labels["alertname"]+" "+a.Status)
	}
}

func (r *receiver) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

// start runs a program until the test ends, and shows its output if it failed.
// It returns the file of its output.
func start(t *testing.T, dir string, env []string, path string, args ...string) (output string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(path)+".log"))
	require.NoError(t, err)
	command := exec.Command(path, args...)
	command.Env = append(os.Environ(), env...)
	command.Dir, command.Stdout, command.Stderr = dir, log, log
	require.NoError(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = command.Process.Kill()
			<-ended
		}
		_ = log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", filepath.Base(path), text[max(0, len(text)-3000):])
		}
	})
	return log.Name()
}

// said waits for a line in a file and returns the group of its pattern.
func said(t *testing.T, ctx context.Context, file, pattern string) (found string) {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	until(t, ctx, filepath.Base(file)+" says "+pattern, func() bool {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		match := expression.FindSubmatch(text)
		if match != nil {
			found = string(match[1])
		}
		return match != nil
	})
	return found
}

func until(t *testing.T, ctx context.Context, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			t.Fatalf("in vain: %s", what)
		case <-ticker.C:
		}
	}
}

func fetch(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	return io.ReadAll(response.Body)
}

// alertState is an alert's state in Prometheus: inactive, pending or firing, or
// nothing if it does not say.
func alertState(ctx context.Context, server, name string) string {
	text, err := fetch(ctx, server+"/api/v1/alerts")
	if err != nil {
		return ""
	}
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if json.Unmarshal(text, &answer) != nil {
		return ""
	}
	for _, a := range answer.Data.Alerts {
		if a.Labels["alertname"] == name {
			return a.State
		}
	}
	return "inactive"
}

func activeInAlertmanager(ctx context.Context, server, name string) (n int) {
	text, err := fetch(ctx, server+"/api/v2/alerts?active=true")
	if err != nil {
		return 0
	}
	var alerts []struct{ Labels map[string]string }
	_ = json.Unmarshal(text, &alerts)
	for _, a := range alerts {
		if a.Labels["alertname"] == name {
			n++
		}
	}
	return n
}

// count returns how many series a query has in Prometheus.
func count(ctx context.Context, server, query string) float64 {
	text, err := fetch(ctx, server+"/api/v1/query?query="+url.QueryEscape("count("+query+")"))
	if err != nil {
		return 0
	}
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	_ = json.Unmarshal(text, &answer)
	if len(answer.Data.Result) == 0 {
		return 0
	}
	var n float64
	_, _ = fmt.Sscan(fmt.Sprint(answer.Data.Result[0].Value[1]), &n)
	return n
}
