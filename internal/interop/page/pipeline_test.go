package page

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestReferencePipeline watches the reference pipeline's own programs: the sink
// is slow until the pipeline throttles, then fast until it opens, and at last
// the processor is killed.
func TestReferencePipeline(t *testing.T) {
	browser := startBrowser(t)
	programs := buildPrograms(t)
	delay := filepath.Join(t.TempDir(), "delay")
	require.NoError(t, os.WriteFile(delay, []byte("250ms"), 0o644)) // slower than the others on any machine

	// Every program picks its ports; the components are found through the
	// control plane, and where that is, it says.
	plane := run(t, programs, "sluice-controlplane", nil, "-grpc", "127.0.0.1:0", "-http", "127.0.0.1:0")
	control := plane.said(t, `"control plane serves gRPC" address=(\S+)`)
	web := "http://" + plane.said(t, `"control plane serves HTTP" address=(\S+)`) + "/"
	env := func(more ...string) []string {
		return append([]string{
			"ENABLE_FLOWCTL=true", "FLOWCTL_ENDPOINT=" + control, "LISTEN_HOST=127.0.0.1",
			"FLIGHT_PORT=0", "HEALTH_PORT=0", "LEDGER_SOURCE=sample", "LEDGER_COUNT=1500",
		}, more...)
	}
	run(t, programs, "stellar-arrow-source", env())
	processor := run(t, programs, "ttp-arrow-processor", env())
	run(t, programs, "arrow-analytics-sink", env("OUT_DIR="+t.TempDir(), "SINK_DELAY_FILE="+delay))

	p := open(t, browser, web, looks[0])
	p.wait(`document.querySelectorAll("svg.wide .node:not(.gone)").length === 3`)
	p.wait(`document.querySelector(".pill").classList.contains("on")`)
	p.wait(`/arrow-analytics-sink is the bottleneck/.test(document.querySelector(".why").textContent)`)
	p.wait(`+document.querySelector("#when").max >= 15`) // some history for the picture
	p.wait(`/measured/.test(document.querySelector("[data-s='f.latency']").textContent)`)
	require.Empty(t, p.problems())
	p.picture("pipeline-throttled")
	p.document("live-page")

	require.NoError(t, os.WriteFile(delay, []byte("0s"), 0o644))
	p.wait(
		`!document.querySelector(".pill").classList.contains("on") && !document.querySelector(".pill").classList.contains("easing")`,
	)
	require.Empty(t, p.problems())

	require.NoError(t, processor.kill())
	p.wait(
		`[...document.querySelectorAll("svg.wide .node.gone")].some(n => n.textContent.includes("ttp-arrow-processor"))`,
	)
	require.Empty(t, p.problems())
	p.picture("pipeline-killed")
	p.clean(web)
}

// buildPrograms builds the pipeline's programs once, into one folder.
func buildPrograms(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", "..", ".."))
	require.NoError(t, err)
	dir := t.TempDir()
	build := func(module string, workspace string, packages ...string) {
		command := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", dir + "/"}, packages...)...)
		command.Dir = filepath.Join(root, module)
		command.Env = append(os.Environ(), "GOWORK="+workspace)
		output, err := command.CombinedOutput()
		require.NoError(t, err, string(output))
	}
	build(".", "off", "./cmd/sluice-controlplane")
	build(
		"examples",
		filepath.Join(root, "go.work"),
		"./stellar-arrow-source",
		"./ttp-arrow-processor",
		"./arrow-analytics-sink",
	)
	return dir
}

// A program is one that runs until the test ends.
type program struct {
	name   string
	cmd    *exec.Cmd
	output safeBuffer
}

func (p *program) kill() error { return p.cmd.Process.Kill() }

// said waits for a line of output and returns the group of its pattern.
func (p *program) said(t *testing.T, pattern string) string {
	t.Helper()
	expression := regexp.MustCompile(pattern)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for hang := time.After(2 * time.Minute); ; {
		if match := expression.FindStringSubmatch(p.output.String()); match != nil {
			return match[1]
		}
		select {
		case <-tick.C:
		case <-hang:
			t.Fatalf("%s never said %s", p.name, pattern)
		}
	}
}

// run starts a program, and ends it with the test.
func run(t *testing.T, dir, name string, env []string, args ...string) *program {
	t.Helper()
	p := &program{name: name, cmd: exec.Command(filepath.Join(dir, name), args...)}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	require.NoError(t, p.cmd.Start())
	done := make(chan struct{})
	go func() { defer close(done); p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			p.cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.output.String())
		}
	})
	return p
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
