package main

import (
	"bufio"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
)

func main() {
	serve := flag.Bool("serve", false, "be the server; used by the program itself")
	run := flag.String("run", "", "parts to run, by commas: "+names()+"; empty = all")
	rounds := flag.Int("rounds", 5, "rounds of each measurement; the median counts")
	calls := flag.Int64("calls", 100_000, "calls of the part races")
	flag.Parse()
	err := error(nil)
	if *serve {
		err = serveUntil(os.Stdin, os.Stdout)
	} else {
		err = measure(os.Stdout, *run, *rounds, *calls)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pools:", err)
		os.Exit(1)
	}
}

// parts of the measurement, in the order of the document.
var parts = []struct {
	name string
	run  func(e env) error
}{
	{"limit", limit},
	{"isolation", isolation},
	{"throughput", throughput},
	{"price", price},
	{"connection", connection},
	{"windows", windows},
	{"races", races},
}

func names() string {
	var all []string
	for _, p := range parts {
		all = append(all, p.name)
	}
	return strings.Join(all, ",")
}

// An env is what a part needs.
type env struct {
	context.Context
	out           io.Writer
	free, limited string // addresses of the server, without and with a limit of 100
	rounds        int
	calls         int64
	small         bool // in tests: a touch of everything
}

func (e env) row(cells ...any) {
	text := make([]string, len(cells))
	for i, c := range cells {
		text[i] = fmt.Sprint(c)
	}
	fmt.Fprintf(e.out, "| %s |\n", strings.Join(text, " | "))
}

func (e env) head(title string, cells ...any) {
	fmt.Fprintf(e.out, "\n%s\n\n", title)
	e.row(cells...)
	fmt.Fprintf(e.out, "|%s\n", strings.Repeat("---|", len(cells)))
}

// measure starts the server as a child and runs the parts.
func measure(out io.Writer, run string, rounds int, calls int64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.Command(self, "-serve")
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	e := env{Context: context.Background(), out: out, rounds: rounds, calls: calls}
	if _, err := fmt.Fscan(bufio.NewReader(answers), &e.free, &e.limited); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s, %d cores, server in a process of its own, loopback\n", runtime.Version(), runtime.NumCPU())
	for _, p := range parts {
		if run != "" && !slices.Contains(strings.Split(run, ","), p.name) {
			continue
		}
		if err := p.run(e); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func median[T cmp.Ordered](v []T) T {
	slices.Sort(v)
	return v[len(v)/2]
}
