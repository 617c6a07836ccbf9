package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// roleVariable makes a process one of the servers; it holds a role as JSON.
const roleVariable = "SLUICE_OVERLOAD_ROLE"

// A role says what a child process is.
type role struct {
	ID                   string
	Plane                bool    // the control plane, and nothing else, with these thresholds
	Activation, Recovery float64 // 0: the defaults
	Control              control // what guards the server
	Slots                int
	Next                 string // the next stage's address, if there is one
	Report               string // the control plane's address, if there is one
	Entry                bool   // follows the control plane's fraction
}

// A report is what a child has counted since its start.
type report struct {
	Address  string
	CPU      time.Duration
	Received int64              // calls that reached the server
	Started  int64              // that reached the handler
	Worked   int64              // that held a slot for their time
	Ended    int64              // that were answered, rejections included
	Peak     int64              // the most handlers at once
	Limit    int64              // in flight; 0: none
	Fraction float64            // the lowest that the control plane set
	Gate     *flowcontrol.Stats // of our controls
}

// A child is this program in a role. It answers each line on its standard
// input with a report, and ends with its input.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	first report
}

func start(r role) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self)}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	if err := c.read(&c.first); err != nil {
		return nil, errors.Join(fmt.Errorf("%s did not start: %w", r.ID, err), c.end())
	}
	return c, nil
}

func (c *child) read(r *report) error {
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, r)
}

// ask returns the child's counts; "stop" lets it finish what it has begun first.
func (c *child) ask(question string) (r report, err error) {
	if _, err = fmt.Fprintln(c.in, question); err == nil {
		err = c.read(&r)
	}
	return r, err
}

func (c *child) end() error {
	c.in.Close()
	return c.cmd.Wait()
}

// asChild runs the role that the environment names, if it does. The process
// ends with its standard input, and so never outlives its parent.
func asChild() {
	text := os.Getenv(roleVariable)
	if text == "" {
		return
	}
	var r role
	err := json.NewDecoder(strings.NewReader(text)).Decode(&r)
	switch {
	case err != nil:
	case r.Plane:
		err = runPlane(r)
	default:
		err = runStage(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "overload:", r.ID, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// answer tells the parent the address, and then the counts each time it asks.
func answer(count func() report, stop func()) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(count()); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if in.Text() == "stop" {
			stop()
		}
		if err := out.Encode(count()); err != nil {
			return err
		}
	}
	return in.Err()
}

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
