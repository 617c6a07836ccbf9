package page

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	ports := freePorts(t, 8)
	control, web := "127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]+"/"
	delay := filepath.Join(t.TempDir(), "delay")
	require.NoError(t, os.WriteFile(delay, []byte("50ms"), 0o644))

	run(t, programs, "sluice-controlplane", nil, "-grpc", control, "-http", "127.0.0.1:"+ports[1])
	env := func(flight, health string, more ...string) []string {
		return append([]string{
			"ENABLE_FLOWCTL=true", "FLOWCTL_ENDPOINT=" + control, "LISTEN_HOST=127.0.0.1",
			"FLIGHT_PORT=" + flight, "HEALTH_PORT=" + health, "LEDGER_SOURCE=sample", "LEDGER_COUNT=1500",
		}, more...)
	}
	run(t, programs, "stellar-arrow-source", env(ports[2], ports[3]))
	processor := run(t, programs, "ttp-arrow-processor", env(ports[4], ports[5]))
	run(t, programs, "arrow-analytics-sink", env(ports[6], ports[7], "OUT_DIR="+t.TempDir(), "SINK_DELAY_FILE="+delay))

	p := open(t, browser, web, looks[0])
	p.wait(`document.querySelectorAll("svg.wide .node:not(.gone)").length === 3`)
	p.wait(`document.querySelector(".pill").classList.contains("on")`)
	p.wait(`/arrow-analytics-sink is the bottleneck/.test(document.querySelector(".why").textContent)`)
	p.wait(`+document.querySelector("#when").max >= 15`) // some history for the picture
	require.Empty(t, p.problems())
	p.picture("pipeline-throttled")
	p.document("live-page")

	require.NoError(t, os.WriteFile(delay, []byte("0s"), 0o644))
	p.wait(`!document.querySelector(".pill").classList.contains("on") && !document.querySelector(".pill").classList.contains("easing")`)
	require.Empty(t, p.problems())

	require.NoError(t, processor.Process.Kill())
	p.wait(`[...document.querySelectorAll("svg.wide .node.gone")].some(n => n.textContent.includes("ttp-arrow-processor"))`)
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
	build(".", "off", "./backpressure/controlplane/cmd/sluice-controlplane")
	build("examples", filepath.Join(root, "go.work"), "./stellar-arrow-source", "./ttp-arrow-processor", "./arrow-analytics-sink")
	return dir
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		ports[i] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// run starts a program, and ends it with the test.
func run(t *testing.T, dir, program string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(filepath.Join(dir, program), args...)
	command.Env = append(os.Environ(), env...)
	output := &safeBuffer{}
	command.Stdout, command.Stderr = output, output
	require.NoError(t, command.Start())
	done := make(chan struct{})
	go func() { defer close(done); command.Wait() }()
	t.Cleanup(func() {
		command.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			command.Process.Kill()
			<-done
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", program, output.String())
		}
	})
	return command
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
