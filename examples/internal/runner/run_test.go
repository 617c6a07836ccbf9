package runner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/runner"
	"github.com/withobsrvr/sluice/examples/internal/sink"
)

// pipelineVariable makes the test binary a pipeline with these arguments, for
// the tests that need one to kill.
const pipelineVariable = "RUNNER_TEST_PIPELINE"

// The pipeline's children are its own binary again, which here is the test's.
func TestMain(m *testing.M) {
	if role := component.Role(os.Getenv(runner.RoleVariable)); role != "" {
		os.Exit(runner.RunChild(role, programs.All()[role]))
	}
	if arguments := os.Getenv(pipelineVariable); arguments != "" {
		os.Unsetenv(pipelineVariable)
		options, err := runner.ParseOptions(strings.Fields(arguments), os.LookupEnv, os.Stderr)
		if err == nil {
			err = runner.Run(context.Background(), runner.Config{
				Options: options, Env: os.Environ(), Programs: programs.All(), Descriptions: programs.Descriptions(), Open: programs.OpenLedgers, Out: os.Stdout, Logs: os.Stderr,
			})
		}
		os.Exit(component.Exit("test pipeline", os.Stderr, err))
	}
	os.Exit(m.Run())
}

// A trial is one run of the pipeline in a test.
type trial struct {
	out        string // -out
	printed    *os.File
	logs       bytes.Buffer
	interrupts chan os.Signal
	done       chan error
}

// start runs the pipeline with flags. env are NAME=VALUE pairs for the components.
func start(
	t *testing.T,
	out string,
	programsOf map[component.Role]component.Run,
	env []string,
	flags ...string,
) *trial {
	t.Helper()
	options, err := runner.ParseOptions(
		append([]string{"-ports=auto", "-summary=json", "-out=" + out}, flags...),
		func(string) (string, bool) { return "", false },
		io.Discard,
	)
	require.NoError(t, err)
	printed, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	require.NoError(t, err)
	tr := &trial{out: out, printed: printed, interrupts: make(chan os.Signal, 2), done: make(chan error, 1)}
	go func() {
		tr.done <- runner.Run(context.Background(), runner.Config{
			Options: options, Env: append(os.Environ(), env...), Programs: programsOf, Descriptions: programs.Descriptions(), Open: programs.OpenLedgers,
			Interrupts: tr.interrupts, Out: printed, Logs: &tr.logs,
		})
	}()
	return tr
}

func (tr *trial) output(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(tr.printed.Name())
	require.NoError(t, err)
	return string(text)
}

// wait returns the summary, which is the last line of the output.
func (tr *trial) wait(t *testing.T) runner.Summary {
	t.Helper()
	return tr.ends(t, 0)
}

// ends is wait for a run that ends with another status.
func (tr *trial) ends(t *testing.T, status int) runner.Summary {
	t.Helper()
	err := <-tr.done
	require.Equal(t, status, component.ExitCode(err), "%v, logs:\n%s", err, &tr.logs)
	lines := strings.Split(strings.TrimSpace(tr.output(t)), "\n")
	decoder := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
	decoder.DisallowUnknownFields()
	var s runner.Summary
	require.NoError(t, decoder.Decode(&s), lines[len(lines)-1])
	return s
}

// dir is the one run folder below -out.
func (tr *trial) dir(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(tr.out, "run-*"))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// until waits for what the pipeline does by itself. It looks in the test's own
// goroutine, so that a look may fail the test.
func (tr *trial) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for hang := time.After(5 * time.Minute); !done(); {
		select {
		case <-tick.C:
		case <-hang:
			t.Fatalf("in vain: %s\n%s", what, tr.output(t))
		}
	}
}

// durable waits until that many ledgers are on disk.
func (tr *trial) durable(t *testing.T, ledgers int64) {
	t.Helper()
	tr.until(t, fmt.Sprintf("%d ledgers are durable", ledgers), func() bool {
		found, _ := filepath.Glob(filepath.Join(tr.out, "run-*"))
		if len(found) != 1 {
			return false
		}
		cp, err := sink.ReadCheckpoint(found[0])
		return err == nil && cp.Ledgers >= ledgers
	})
}

// said waits for a line of output and returns its match.
func (tr *trial) said(t *testing.T, pattern string) (match []string) {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	tr.until(t, "it says "+pattern, func() bool {
		match = expression.FindStringSubmatch(tr.output(t))
		return match != nil
	})
	return match
}

// forever is a delay that no run sees the end of: whatever speed the machine
// has, the sink is full before it goes on.
const forever = "-sink-delay=1h"

// full waits until the sink holds all that it may.
func (tr *trial) full(t *testing.T) {
	t.Helper()
	at := tr.said(t, `arrow-analytics-sink at \S+, metrics at (\S+)/metrics`)[1]
	tr.until(t, "the sink is full", func() bool {
		st := tr.status(t, at)
		return st.InFlight == st.MaxInFlight
	})
}

func requireTruthOfTwo(t *testing.T, s runner.Summary, pairs int64) {
	t.Helper()
	require.Equal(t, 2*pairs, s.Ledgers)
	require.Equal(t, 412*pairs, s.Transactions)
	require.Equal(t, 962*pairs, s.Events)
	require.Equal(
		t,
		map[string]int64{"fee": 514 * pairs, "transfer": 425 * pairs, "mint": 13 * pairs, "burn": 10 * pairs},
		s.EventsByType,
	)
	require.Zero(t, *s.Lost)
	require.Zero(t, *s.Duplicates)
	require.Equal(t, 1.0, s.FinalFraction)
	require.Positive(t, s.Bytes)
	require.Positive(t, s.DurationSeconds)
}

func TestPipelineEndToEnd(t *testing.T) {
	for _, flags := range [][]string{{"-inprocess=false"}, {"-inprocess"}, {"-inprocess", "-format=csv"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			tr := start(t, t.TempDir(), programs.All(), nil, append(flags, "-ledgers=2")...)
			s := tr.wait(t)
			requireTruthOfTwo(t, s, 1)
			require.Contains(t, tr.output(t), "chain of hashes rewritten", "a replay says so")
			files, err := sink.Files(tr.dir(t))
			require.NoError(t, err)
			require.Len(t, files, s.Files)
		})
	}
}

// Interrupted in the middle, the pipeline drains: complete files only. Resumed,
// it does the rest, and the files of both runs together have every event once.
func TestInterruptAndResume(t *testing.T) {
	out := t.TempDir()
	small := []string{"STAGE_MAX_BATCHES=4"} // what a drain still writes
	tr := start(t, out, programs.All(), small, "-ledgers=20", forever)
	tr.full(t)
	tr.interrupts <- os.Interrupt
	first := tr.ends(t, component.ExitIncomplete)
	require.Contains(t, tr.output(t), "draining; once more stops at once")
	require.Contains(t, tr.output(t), "-resume continues")
	require.Positive(t, first.Ledgers)
	require.Less(t, first.Ledgers, int64(20))
	require.Positive(t, first.DurationSeconds, "all that is durable was made so by the drain")
	require.Positive(t, first.EventsPerSecond)
	require.Zero(t, *first.Lost)
	require.Zero(t, *first.Duplicates)
	left, err := os.ReadDir(filepath.Join(tr.dir(t), ".partial"))
	require.NoError(t, err)
	require.Empty(t, left)

	again := start(t, out, programs.All(), small, "-resume", "-inprocess")
	requireTruthOfTwo(t, again.wait(t), 10)
	require.Contains(t, again.output(t), "continuing at ledger")
	require.Equal(t, tr.dir(t), again.dir(t), "the same folder")
}

// The second interrupt stops at once. What is there is complete, and can be
// resumed.
func TestSecondInterruptStopsAtOnce(t *testing.T) {
	out := t.TempDir()
	tr := start(t, out, programs.All(), []string{"STAGE_MAX_BATCHES=4"}, "-ledgers=12", forever)
	tr.full(t)
	tr.interrupts <- os.Interrupt
	tr.interrupts <- os.Interrupt
	if err := <-tr.done; err != nil { // it may have drained before the second one
		require.True(
			t,
			errors.Is(err, runner.ErrInterrupted) || component.ExitCode(err) == component.ExitIncomplete,
			"%v",
			err,
		)
	}
	again := start(t, out, programs.All(), nil, "-resume", "-inprocess")
	requireTruthOfTwo(t, again.wait(t), 6)
}

// A slow sink shows as load, the control plane throttles the source, and when
// the sink is fast again everything recovers. Nothing is lost.
func TestBackpressureComesAndGoes(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("right-to-change"), 0o600))
	tr := start(
		t,
		t.TempDir(),
		programs.All(),
		[]string{"STAGE_MAX_BATCHES=8", "AUTH_ADMIN_TOKEN_FILE=" + token},
		"-inprocess",
		"-ledgers=40",
		forever,
		"-serve",
	)
	at := tr.said(t, `stellar-arrow-source at \S+, metrics at (\S+)/metrics`)[1]
	client := tr.flight(t, "arrow-analytics-sink")
	tr.until(t, "the source is throttled", func() bool { return tr.status(t, at).Fraction < 1 })
	right := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer right-to-change")
	stream, err := client.DoAction(right, &flight.Action{Type: sink.ActionSetDelay, Body: []byte("0s")})
	require.NoError(t, err)
	before, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, "1h0m0s", string(before.Body))
	tr.durable(t, 40)
	tr.until(t, "it recovers", func() bool { return tr.status(t, at).Fraction == 1 })
	tr.interrupts <- os.Interrupt
	s := tr.wait(t)
	requireTruthOfTwo(t, s, 20)
	require.Greater(t, s.PeakLoad, 0.8)
	require.GreaterOrEqual(t, s.Activations, int64(1))
	require.Positive(t, s.ThrottledSeconds)
}

func (tr *trial) flight(t *testing.T, name string) flight.Client {
	t.Helper()
	conn, err := grpc.NewClient(tr.said(t, name+` at (\S+),`)[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return flight.NewClientFromConn(conn, nil)
}

func TestEveryComponentServesItsEndpoints(t *testing.T) {
	tr := start(t, t.TempDir(), programs.All(), nil, "-inprocess", "-ledgers=2", "-serve")
	for _, name := range []string{"stellar-arrow-source", "ttp-arrow-processor", "arrow-analytics-sink"} {
		at := tr.said(t, name+` at \S+, metrics at (\S+)/metrics`)[1]
		for _, path := range []string{"/livez", "/readyz", "/health", "/status"} {
			code, body := get(t, at+path)
			require.Equal(t, 200, code, "%s%s: %s", at, path, body)
		}
		_, metrics := get(t, at+"/metrics")
		require.Contains(t, metrics, `flowctl_service_load_ratio{`, name)
		require.Contains(t, metrics, name)
	}
	tr.durable(t, 2)
	control := tr.said(t, `control plane at \S+, live topology at (http://\S+)/`)[1]
	require.Eventually(t, func() bool {
		var state struct {
			Ms       float64 `json:"latency_ms"`
			Measured bool    `json:"latency_measured"`
		}
		_, body := get(t, control+"/state")
		return json.Unmarshal([]byte(body), &state) == nil && state.Measured && state.Ms > 0
	}, 3*time.Minute, 10*time.Millisecond, "the latency is measured, from the source to the sink")
	tr.until(t, "the monitor knows it, too, at its next look", func() bool {
		var report struct {
			Performance struct {
				LatencyMeasured bool `json:"latency_measured"`
			} `json:"performance"`
		}
		_, body := get(t, control+"/report")
		require.NoError(t, json.Unmarshal([]byte(body), &report))
		return report.Performance.LatencyMeasured
	})
	totals := tr.flight(t, "arrow-analytics-sink")
	tr.until(t, "the totals are served", func() bool { // what is on disk is shown a moment later
		stream, err := totals.DoGet(t.Context(), &flight.Ticket{Ticket: []byte(sink.TotalsFlight)})
		require.NoError(t, err)
		reader, err := flight.NewRecordReader(stream)
		require.NoError(t, err)
		defer reader.Release()
		require.True(t, reader.Next())
		require.Equal(t, sink.TotalsSchema.Fields(), reader.Schema().Fields())
		return reader.RecordBatch().NumRows() > 0
	})
	tr.interrupts <- os.Interrupt
	requireTruthOfTwo(t, tr.wait(t), 1)
}

// TestFiguresAgree compares what files, status, metrics, report and page say, while
// the sink stands still and after the last event.
func TestFiguresAgree(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("right-to-change"), 0o600))
	tr := start(t, t.TempDir(), programs.All(), []string{"STAGE_MAX_BATCHES=8", "AUTH_ADMIN_TOKEN_FILE=" + token},
		"-inprocess", "-ledgers=40", forever, "-serve")
	const sinkID, sourceID = "arrow-analytics-sink", "stellar-arrow-source"
	at := func(name string) string { return tr.said(t, name+` at \S+, metrics at (\S+)/metrics`)[1] }
	control := tr.said(t, `control plane at \S+, live topology at (http://\S+)/`)[1]
	series := func(target, name string) string {
		_, text := get(t, target+"/metrics")
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, name+" "); ok {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	type node struct {
		ID    string `json:"id"`
		Queue int64  `json:"queue_depth"`
	}
	page := func() map[string]int64 {
		var graph struct {
			Nodes []node `json:"nodes"`
		}
		_, text := get(t, control+"/topology.json")
		require.NoError(t, json.Unmarshal([]byte(text), &graph))
		queues := map[string]int64{}
		for _, n := range graph.Nodes {
			queues[n.ID] = n.Queue
		}
		return queues
	}
	report := func() map[string]int64 {
		var r struct {
			Services map[string]node `json:"services"`
		}
		_, text := get(t, control+"/report")
		require.NoError(t, json.Unmarshal([]byte(text), &r))
		queues := map[string]int64{}
		for id, n := range r.Services {
			queues[id] = n.Queue
		}
		return queues
	}
	tr.full(t)
	tr.until(t, "all say how much waits in the sink", func() bool {
		inMetrics := series(at(sinkID), `flowctl_service_queue_depth{service_id="`+sinkID+`"}`)
		return inMetrics == "8" && page()[sinkID] == 8 && report()[sinkID] == 8
	})

	right := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer right-to-change")
	stream, err := tr.flight(t, sinkID).DoAction(right, &flight.Action{Type: sink.ActionSetDelay, Body: []byte("0s")})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)
	tr.durable(t, 40)
	events := strconv.Itoa(20 * 962) // TestPipelineEndToEnd knows what is in two ledgers
	for name, target := range map[string]string{
		`flowctl_service_events_total{direction="in",service_id="` + sourceID + `"}`: at(sourceID),
		`flowctl_service_events_total{direction="in",service_id="` + sinkID + `"}`:   at(sinkID),
		`flowctl_service_events_total{direction="out",service_id="` + sinkID + `"}`:  at(sinkID),
		`flowctl_pipeline_events_total`:                                              control,
	} {
		want := events
		if target == at(sourceID) {
			want = "40"
		}
		tr.until(t, name+" is "+want, func() bool { return series(target, name) == want })
	}
	tr.interrupts <- os.Interrupt
	requireTruthOfTwo(t, tr.wait(t), 20)
}

// A component that fails ends the run with its reason, and none is left.
func TestAComponentFails(t *testing.T) {
	broken := programs.All()
	broken[component.RoleSink] = func(context.Context, component.Process) error { return errors.New("the disk is on fire") }
	tr := start(t, t.TempDir(), broken, nil, "-inprocess", "-ledgers=2")
	err := <-tr.done
	require.ErrorContains(t, err, "arrow-analytics-sink ended: the disk is on fire")
}

// Every mistake at once, each one once, and before anything is started: a child
// could say no more than that it ended with status 2.
func TestAMistakeInTheEnvironmentIsAUsageError(t *testing.T) {
	out := t.TempDir()
	tr := start(
		t,
		out,
		programs.All(),
		[]string{"STAGE_MAX_BATCHES=many", "FILE_AGE=5", "PROCESSOR_WORKERS=-1"},
		"-ledgers=2",
	)
	err := <-tr.done
	require.Equal(t, 2, component.ExitCode(err))
	for _, want := range []string{`STAGE_MAX_BATCHES="many" is not accepted: want a whole number`, `FILE_AGE="5"`, `PROCESSOR_WORKERS="-1"`} {
		require.Equal(t, 1, strings.Count(err.Error(), want), "%v", err)
	}
	left, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Interrupted before it is up, the pipeline ends as cleanly as later: with a
// summary of what there is, and it can be resumed.
func TestInterruptBeforeItIsUp(t *testing.T) {
	out := t.TempDir()
	halted := programs.All()
	halted[component.RoleSink] = func(ctx context.Context, p component.Process) error {
		select { // never up
		case <-p.Drain:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	tr := start(t, out, halted, nil, "-inprocess", "-ledgers=2")
	tr.said(t, "ttp-arrow-processor at")
	tr.interrupts <- os.Interrupt
	s := tr.ends(t, component.ExitIncomplete)
	require.Zero(t, s.Ledgers)
	require.Zero(t, *s.Lost)
	require.Contains(t, tr.output(t), "0 of 2 ledgers on disk; -resume continues")
	again := start(t, out, programs.All(), nil, "-inprocess", "-resume", "-ledgers=2")
	requireTruthOfTwo(t, again.wait(t), 1)
}

func TestATakenPortIsNamedWithItsFlag(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	out := t.TempDir()
	tr := start(
		t,
		out,
		programs.All(),
		nil,
		"-ledgers=2",
		fmt.Sprintf(
			"-ports=control=0,control-http=0,source=0,source-http=0,processor=0,processor-http=0,sink=%d,sink-http=0",
			port,
		),
	)
	err = <-tr.done
	require.ErrorContains(t, err, fmt.Sprintf("port %d for sink is not free", port))
	require.ErrorContains(t, err, "-ports sink=PORT")
	left, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Empty(t, left, "a run that cannot start leaves nothing behind")
}

// Children never outlive their parent, not even one that is killed. All of them
// have the end of a pipe that nobody writes to, as their parent's parent gave it:
// the pipe ends with the last of them.
func TestChildrenDieWithTheirParent(t *testing.T) {
	binary, err := os.Executable()
	require.NoError(t, err)
	alive, held, err := os.Pipe()
	require.NoError(t, err)
	defer alive.Close()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), pipelineVariable+"=-ports=auto -ledgers=2 -serve -out="+t.TempDir())
	cmd.ExtraFiles = []*os.File{held}
	printed, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = printed, printed
	require.NoError(t, cmd.Start())
	require.NoError(t, held.Close())
	tr := &trial{printed: printed}
	addresses := []string{tr.said(t, `control plane at (\S+),`)[1]}
	for _, name := range []string{"stellar-arrow-source", "ttp-arrow-processor", "arrow-analytics-sink"} {
		addresses = append(addresses, tr.said(t, name+` at (\S+),`)[1])
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.NoError(t, alive.SetReadDeadline(time.Now().Add(5*time.Minute))) // a guard against hanging
	_, err = io.Copy(io.Discard, alive)
	require.NoError(t, err)
	for _, address := range addresses { // a process that ends closes the pipe a little before its ports
		tr.until(t, address+" is closed", func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	}
}
