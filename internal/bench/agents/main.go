// Command agents measures the control plane over loopback, with the server and
// the agents in processes of their own and one connection for each agent.
//
//	GOWORK=off go -C internal/bench run ./agents -mode latency -agents 1000
//	GOWORK=off go -C internal/bench run ./agents -mode cost -agents 10000
//
// latency: how long after the report that crosses the threshold the last agent
// works at the new fraction. cost: what the server needs while every agent
// beats every 10 s and reports a changed load every second; and, after that,
// the bytes of agents that are idle.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"
)

func main() {
	role := flag.String("role", "", "server or agents, in the processes that the program starts")
	mode := flag.String("mode", "latency", "latency or cost")
	count := flag.Int("agents", 1000, "number of agents")
	rounds := flag.Int("rounds", 20, "rounds of the latency mode")
	lasting := flag.Duration("for", 20*time.Second, "how long the cost mode measures")
	address := flag.String("address", "", "the server's, for -role agents")
	first := flag.Int("first", 0, "number of the first agent, for -role agents")
	profile := flag.String(
		"profile", "", "`directory` for the server's CPU and heap profile while the agents are busy, for -mode cost",
	)
	web := flag.Bool("http", false, "the server serves HTTP too: metrics, health and the live page, which nobody watches")
	procs := flag.Int("procs", 0, "GOMAXPROCS of the server; 0: as the program sets it")
	flag.Parse()
	var err error
	switch *role {
	case "server":
		err = plane(*mode, *profile, *web)
	case "agents":
		err = agents(*mode, *address, *first, *count, *rounds)
	default:
		switch *mode {
		case "latency":
			err = latency(*count, *rounds, *procs)
		case "cost":
			err = cost(*count, *lasting, *profile, *procs, *web)
		default:
			err = fmt.Errorf("-mode is %q, want latency or cost", *mode)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agents:", err)
		os.Exit(1)
	}
}

// A child is this program in a role. It answers each line on its standard
// input with a line of JSON, and ends with its input.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func start(procs int, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, args...)}
	if procs > 0 {
		c.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", procs))
	}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

func (c *child) ask(question string, answer any) error {
	if question != "" {
		if _, err := fmt.Fprintln(c.in, question); err != nil {
			return err
		}
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, answer)
}

func (c *child) stop() {
	c.in.Close()
	c.cmd.Wait()
}

func latency(count, rounds, procs int) error {
	server, err := start(procs, "-role", "server", "-mode", "latency")
	if err != nil {
		return err
	}
	defer server.stop()
	var address string
	if err := server.ask("", &address); err != nil {
		return err
	}
	group, err := start(
		0, "-role", "agents", "-mode", "latency", "-address", address, "-agents", fmt.Sprint(count), "-rounds",
		fmt.Sprint(rounds),
	)
	if err != nil {
		return err
	}
	defer group.stop()
	var ready bool
	if err := group.ask("", &ready); err != nil {
		return err
	}
	var found []round
	if err := group.ask("run", &found); err != nil {
		return err
	}
	figure := func(name string, of func(round) float64) {
		values := make([]float64, len(found))
		for i, r := range found {
			values[i] = of(r)
		}
		slices.Sort(values)
		fmt.Printf(
			"%-28s best %5.1f ms, median %5.1f ms, worst %5.1f ms\n", name, values[0], values[len(values)/2],
			values[len(values)-1],
		)
	}
	fmt.Printf("%d agents, %d rounds, from the crossing report to the changed fraction:\n", count, len(found))
	figure("the median agent", func(r round) float64 { return r.P50 })
	figure("p99 over the agents", func(r round) float64 { return r.P99 })
	figure("the last agent", func(r round) float64 { return r.Last })
	return nil
}

func sum(groups []*child) (all traffic, err error) {
	for _, group := range groups {
		var one traffic
		if err := group.ask("traffic", &one); err != nil {
			return all, err
		}
		all.Up, all.Down = all.Up+one.Up, all.Down+one.Down
	}
	return all, nil
}

func cost(count int, lasting time.Duration, profile string, procs int, web bool) error {
	server, err := start(procs, "-role", "server", "-mode", "cost", "-profile", profile, fmt.Sprintf("-http=%v", web))
	if err != nil {
		return err
	}
	defer server.stop()
	var address string
	if err := server.ask("", &address); err != nil {
		return err
	}
	const processes = 2
	var groups []*child
	for i := range processes {
		group, err := start(
			0, "-role", "agents", "-mode", "cost", "-address", address, "-agents", fmt.Sprint(count/processes), "-first",
			fmt.Sprint(i*count/processes),
		)
		if err != nil {
			return err
		}
		defer group.stop()
		groups = append(groups, group)
	}
	for _, group := range groups {
		var ready bool
		if err := group.ask("", &ready); err != nil {
			return err
		}
	}
	measure := func(what string) error {
		time.Sleep(3 * time.Second) // what connecting left behind
		var before, after usage
		begin, err := sum(groups)
		if err != nil {
			return err
		}
		if err := server.ask("usage", &before); err != nil {
			return err
		}
		time.Sleep(lasting)
		if err := server.ask("usage", &after); err != nil {
			return err
		}
		end, err := sum(groups)
		if err != nil {
			return err
		}
		seconds := after.At.Sub(before.At).Seconds()
		agentMinutes := float64(after.Components) * seconds / 60
		fmt.Printf(
			"%s, %.0f s: %d agents, %.1f %% of one core, %.0f MiB resident (%.0f MiB heap, %.0f MiB stacks), "+
				"%.0f reports/s, %d goroutines, %.1f MiB/s allocated, %d collections\n",
			what,
			seconds,
			after.Components,
			100*(after.CPU-before.CPU)/seconds,
			float64(after.Resident)/(1<<20),
			float64(after.Heap)/(1<<20),
			float64(after.Stacks)/(1<<20),
			float64(after.Reports-before.Reports)/seconds,
			after.Goroutines,
			float64(after.Allocated-before.Allocated)/(1<<20)/seconds,
			after.Collections-before.Collections,
		)
		fmt.Printf(
			"    bytes per agent and minute, gRPC on TCP: %.0f up, %.0f down\n", float64(end.Up-begin.Up)/agentMinutes,
			float64(end.Down-begin.Down)/agentMinutes,
		)
		return nil
	}
	if err := measure("busy"); err != nil {
		return err
	}
	for _, group := range groups {
		var ok bool
		if err := group.ask("idle", &ok); err != nil {
			return err
		}
	}
	return measure("idle")
}
