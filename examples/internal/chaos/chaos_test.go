//go:build unix

package chaos

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/sink"
	"github.com/withobsrvr/sluice/examples/internal/sink/failpoint"
	"github.com/withobsrvr/sluice/examples/internal/verify"
)

var (
	faults = flag.Int("faults", 40, "how many faults")
	seed   = flag.Uint64("seed", 16, "of their sequence")
)

// The variables of a child: its role, and for a sink the step of a commit that
// fails, how often it is passed before, and how: by an error or by SIGKILL.
const (
	roleVariable = "CHAOS_ROLE"
	failVariable = "CHAOS_FAIL" // step:passes:error or step:passes:kill
)

// TestMain makes the test's binary a component where it is asked to be one.
func TestMain(m *testing.M) {
	role := component.Role(os.Getenv(roleVariable))
	if role == "" {
		os.Exit(m.Run())
	}
	if text := os.Getenv(failVariable); text != "" {
		failAt(text)
	}
	os.Args = os.Args[:1]
	os.Exit(component.Main(string(role), "", programs.All()[role], programs.Descriptions()[role]))
}

func failAt(text string) {
	parts := strings.Split(text, ":")
	passes, err := strconv.Atoi(parts[1])
	if err != nil {
		panic(err)
	}
	failpoint.Set(func(step string) error {
		if step != parts[0] {
			return nil
		}
		if passes--; passes >= 0 {
			return nil
		}
		if parts[2] == "kill" {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
		return errors.New("injected: no space left on device")
	})
}

// A process is a component that runs.
type process struct {
	*exec.Cmd
	log  bytes.Buffer
	done chan struct{}
}

func (p *process) signal(s syscall.Signal) { _ = p.Process.Signal(s) } // it may have ended

// A world is the three components on ports that stay, the links between them, and
// the sink's folder.
type world struct {
	t      *testing.T
	env    []string
	dir    string
	procs  map[component.Role]*process
	links  []*link
	health int // the sink's HTTP port
	disks  int // disk faults so far
}

var roles = []component.Role{component.RoleSource, component.RoleProcessor, component.RoleSink}

func freePort(t *testing.T) int {
	listener, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func newWorld(t *testing.T, count int) *world {
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "run"), procs: map[component.Role]*process{}}
	source, processor := freePort(t), freePort(t)
	w.links = []*link{newLink(t, "source", source), newLink(t, "processor", processor)}
	w.health = freePort(t)
	w.env = append(os.Environ(),
		fmt.Sprintf("LEDGER_COUNT=%d", count), "STAGE_MAX_BATCHES=8", "LOG_LEVEL=warn", "HEALTH_PORT=0", "OUT_DIR="+w.dir,
		fmt.Sprintf("SOURCE_ENDPOINT=localhost:%d", w.links[0].port), fmt.Sprintf("PROCESSOR_ENDPOINT=localhost:%d", w.links[1].port),
		"MONITORING_INTERVAL=200ms", "DRAIN_GRACE=1s",
		"FILE_BYTES=20000", "ROW_GROUP_BYTES=65536", "FILE_AGE=200ms", "SINK_DELAY=200ms", "STALL_TIMEOUT=2s", "EXIT_WHEN_DONE=true",
		"CONNECTION_POOL_HEALTH_CHECK_INTERVAL=500ms",
	)
	port := map[component.Role]int{component.RoleSource: source, component.RoleProcessor: processor}
	for _, role := range roles {
		w.start(role, fmt.Sprintf("FLIGHT_PORT=%d", port[role]))
	}
	t.Cleanup(func() {
		for _, p := range w.procs {
			p.signal(syscall.SIGKILL)
			<-p.done
		}
	})
	return w
}

func (w *world) launch(role component.Role, env ...string) *process {
	binary, err := os.Executable()
	require.NoError(w.t, err)
	p := &process{Cmd: exec.Command(binary), done: make(chan struct{})}
	p.Env = append(append(w.env[:len(w.env):len(w.env)], roleVariable+"="+string(role)), env...)
	p.Stdout, p.Stderr = &p.log, &p.log
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(w.t, p.Start())
	go func() {
		_ = p.Wait()
		close(p.done)
	}()
	return p
}

// start starts a component, again on the port that it had.
func (w *world) start(role component.Role, env ...string) {
	if before := w.procs[role]; before != nil && len(env) == 0 {
		for _, pair := range before.Env {
			if role != component.RoleSink && strings.HasPrefix(pair, "FLIGHT_PORT=") {
				env = append(env, pair)
			}
		}
	}
	if role == component.RoleSink {
		env = append(env, "FLIGHT_PORT=0", fmt.Sprintf("HEALTH_PORT=%d", w.health))
	}
	w.procs[role] = w.launch(role, env...)
}

// end waits for a process that is asked to end.
func (w *world) end(p *process) {
	select {
	case <-p.done:
	case <-time.After(time.Minute): // a guard against hanging
		w.t.Fatalf("it does not end:\n%s", &p.log)
	}
}

// progress waits until another ledger is durable. The sink must not end by itself.
func (w *world) progress() {
	from := w.next()
	for hang := time.After(2 * time.Minute); w.next() == from; {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-w.procs[component.RoleSink].done:
			w.t.Fatalf("the sink ended at ledger %d\n%s", from, w.logs())
		case <-hang:
			w.t.Fatalf("no progress at ledger %d\n%s", from, w.logs())
		}
	}
}

func (w *world) logs() string {
	var logs strings.Builder
	for _, role := range roles {
		fmt.Fprintf(&logs, "%s:\n%s\n", role, &w.procs[role].log)
	}
	return logs.String()
}

func (w *world) next() uint32 {
	cp, _ := sink.ReadCheckpoint(w.dir) // none yet: ledger 0
	return cp.Next
}

// done says whether the whole range is on disk.
func (w *world) finished() bool {
	cp, err := sink.ReadCheckpoint(w.dir)
	return err == nil && cp.Done()
}

// TestNothingIsLostWhateverDies breaks the pipeline until it has had all of its
// faults, lets it finish, and compares every column of what it wrote.
func TestNothingIsLostWhateverDies(t *testing.T) {
	random := rand.New(rand.NewPCG(*seed, 0))
	w := newWorld(t, 20**faults+100)
	kinds := map[string]int{}
	for n := range *faults {
		w.progress()
		require.False(t, w.finished(), "the run ended after %d faults: give it more ledgers", n)
		kinds[w.fault(random, n)]++
	}
	t.Log("faults:", kinds)
	// The rest without a delay. The last sink is asked for all of it.
	last := w.procs[component.RoleSink]
	last.signal(syscall.SIGTERM)
	w.end(last)
	w.start(component.RoleSink, "SINK_DELAY=0s", "FILE_AGE=1h", "FILE_BYTES=1000000")
	last = w.procs[component.RoleSink]
	select {
	case <-last.done:
	case <-time.After(5 * time.Minute):
		t.Fatalf("the last sink does not end:\n%s", &last.log)
	}
	require.Zero(t, last.ProcessState.ExitCode(), "%s", &last.log)
	var out bytes.Buffer
	require.NoError(t, verify.Run(t.Context(), w.dir, os.LookupEnv, programs.OpenLedgers, &out), "%s", &out)
	t.Log(out.String())
}

// fault breaks something and makes it whole again. It returns what it did.
func (w *world) fault(random *rand.Rand, n int) string {
	role := roles[random.IntN(len(roles))]
	p := w.procs[role]
	switch n % 10 {
	case 0:
		p.signal(syscall.SIGKILL)
		w.end(p)
		w.start(role)
		return "kill"
	case 1:
		p.signal(syscall.SIGSTOP)
		<-time.After(time.Duration(random.IntN(300)) * time.Millisecond)
		p.signal(syscall.SIGCONT)
		return "stop"
	case 2:
		status := 0
		if role == component.RoleSink {
			status = component.ExitIncomplete
		}
		p.signal(syscall.SIGTERM)
		w.end(p)
		require.Equal(w.t, status, p.ProcessState.ExitCode(), "%s", &p.log)
		w.start(role)
		return "restart"
	case 3:
		second := w.launch(component.RoleSink, "FLIGHT_PORT=0")
		w.end(second)
		require.Equal(w.t, component.ExitFailed, second.ProcessState.ExitCode(), "%s", &second.log)
		require.Contains(w.t, second.log.String(), fmt.Sprintf("process %d on ", w.procs[component.RoleSink].Process.Pid))
		return "second sink"
	case 4:
		w.links[random.IntN(2)].cut(time.Duration(random.IntN(300)) * time.Millisecond)
		return "cut"
	case 5:
		w.links[random.IntN(2)].slow(500 * time.Millisecond)
		return "slow"
	case 6:
		w.links[random.IntN(2)].halfOpen(w.unready)
		return "half-open"
	case 7: // two at once: a component is dead or halted while a link is broken
		kill := n/10%2 == 0
		if kill {
			p.signal(syscall.SIGKILL)
			w.end(p)
		} else {
			p.signal(syscall.SIGSTOP)
		}
		switch l := w.links[random.IntN(2)]; n / 10 % 3 {
		case 0:
			l.halfOpen(func() { <-time.After(3 * time.Second) }) // longer than STALL_TIMEOUT
		case 1:
			l.cut(time.Duration(random.IntN(300)) * time.Millisecond)
		default:
			l.slow(500 * time.Millisecond)
		}
		if kill {
			w.start(role)
		} else {
			p.signal(syscall.SIGCONT)
		}
		return "two"
	default: // two of ten: 40 faults have one at each step
		step := failpoint.Steps[w.disks%len(failpoint.Steps)]
		w.disks++
		how := []string{"kill", "error"}[random.IntN(2)]
		sinkProcess := w.procs[component.RoleSink]
		sinkProcess.signal(syscall.SIGKILL)
		w.end(sinkProcess)
		w.start(component.RoleSink, fmt.Sprintf("%s=%s:%d:%s", failVariable, step, 2+random.IntN(3), how))
		broken := w.procs[component.RoleSink]
		w.end(broken)
		require.NotZero(w.t, broken.ProcessState.ExitCode())
		w.start(component.RoleSink) // without the failpoint
		return "disk, " + how
	}
}
