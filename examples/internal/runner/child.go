package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
)

// A unit is a started component, as a child process or as goroutines.
type unit interface {
	// Ready yields where the component serves, once it does. It is closed
	// without a value when the component ended before.
	Ready() <-chan component.Addresses
	// Drain asks for a clean end. It may be called more than once.
	Drain()
	// Kill stops it at once.
	Kill()
	// Done is closed when it ended; Err says how, and how is nil for well.
	Done() <-chan struct{}
	Err() error
	// PeakMemory returns the most memory it had resident, in bytes, or 0 where
	// that is not known. It is valid after Done.
	PeakMemory() int64
}

// RoleVariable names the component that a child process is to run.
const RoleVariable = "PIPELINE_CHILD_ROLE"

// The words of a parent to its child, on the child's standard input. The end of
// the input without this word means that the parent is gone.
const drainWord = "drain\n"

// graceAfterParent is how long a child whose parent is gone may take to stop.
const graceAfterParent = 2 * time.Second

// RunChild is the main function of a child process: it runs the component until
// the parent asks for its end, and stops at once when the parent is gone. It
// returns the exit status.
func RunChild(role component.Role, run component.Run) int {
	// Ctrl-C in a terminal reaches every process of the group; what it means is
	// the parent's to decide.
	signal.Ignore(os.Interrupt)
	component.BoundMemory()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	drain := make(chan struct{})
	drainOnce := sync.OnceFunc(func() { close(drain) })
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		drainOnce()
	}()
	go func() {
		word, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		if word == drainWord {
			drainOnce()
			_, _ = io.Copy(io.Discard, os.Stdin) // until the parent ends too
		}
		stop()
		<-time.After(graceAfterParent)
		os.Exit(1)
	}()
	err := run(ctx, component.Process{
		Lookup: os.LookupEnv,
		Log:    os.Stderr,
		Drain:  drain,
		Ready:  component.AnnounceTo(os.Stdout),
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return 1 // nobody is left to read why
	}
	return component.Exit(string(role), os.Stderr, err)
}

// child is a unit in a process of its own: this program again, with a role.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	drain func()
	ready chan component.Addresses
	done  chan struct{}
	err   error
}

// A spawner starts child processes. They die with the thread that started them
// (see dieWithParent), so that one thread starts all of them and waits.
type spawner struct {
	jobs chan func()
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func())}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

// close ends the thread. Call it after every child ended.
func (s *spawner) close() { close(s.jobs) }

func (s *spawner) start(role component.Role, env []string, log io.Writer) (unit, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{
		cmd:   exec.Command(binary),
		ready: make(chan component.Addresses, 1),
		done:  make(chan struct{}),
	}
	c.cmd.Env = append(env, RoleVariable+"="+string(role))
	c.cmd.Stderr = log
	dieWithParent(c.cmd)
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.drain = sync.OnceFunc(func() { _, _ = io.WriteString(c.stdin, drainWord) }) // it ended: Done says so
	started := make(chan error, 1)
	s.jobs <- func() { started <- c.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	go c.wait(role, stdout)
	return c, nil
}

func (c *child) wait(role component.Role, stdout io.Reader) {
	defer close(c.done)
	lines := bufio.NewReader(stdout)
	if line, err := lines.ReadBytes('\n'); err == nil {
		var a component.Addresses
		if err := json.Unmarshal(line, &a); err == nil {
			c.ready <- a
		}
	}
	close(c.ready)
	_, _ = io.Copy(io.Discard, lines)
	if err := c.cmd.Wait(); err != nil {
		c.err = fmt.Errorf("%s ended: %w", role, err)
	}
	c.stdin.Close()
}

func (c *child) Ready() <-chan component.Addresses { return c.ready }
func (c *child) Drain()                            { c.drain() }
func (c *child) Kill()                             { _ = c.cmd.Process.Kill() } // it ended: Done says so
func (c *child) Done() <-chan struct{}             { return c.done }
func (c *child) Err() error                        { return c.err }
func (c *child) PeakMemory() int64                 { return peakMemory(c.cmd.ProcessState) }

// local is a unit that runs as goroutines of this process.
type local struct {
	ready chan component.Addresses
	drain func()
	kill  context.CancelFunc
	done  chan struct{}
	err   error
}

func startLocal(role component.Role, run component.Run, env []string, log io.Writer) unit {
	ctx, kill := context.WithCancel(context.Background())
	drain := make(chan struct{})
	l := &local{
		ready: make(chan component.Addresses, 1),
		drain: sync.OnceFunc(func() { close(drain) }),
		kill:  kill,
		done:  make(chan struct{}),
	}
	go func() {
		defer close(l.done)
		defer close(l.ready)
		defer kill()
		err := run(ctx, component.Process{
			Lookup: lookupIn(env),
			Log:    log,
			Drain:  drain,
			Ready:  func(a component.Addresses) { l.ready <- a },
		})
		if err != nil {
			l.err = fmt.Errorf("%s ended: %w", role, err)
		}
	}()
	return l
}

func (l *local) Ready() <-chan component.Addresses { return l.ready }
func (l *local) Drain()                            { l.drain() }
func (l *local) Kill()                             { l.kill() }
func (l *local) Done() <-chan struct{}             { return l.done }
func (l *local) Err() error                        { return l.err }
func (l *local) PeakMemory() int64                 { return 0 }
