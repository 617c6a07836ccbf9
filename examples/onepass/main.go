// Command onepass measures what the pipeline costs: it does the pipeline's work in
// one process, without Flight, files of state or a control plane, and the pipeline
// does it beside, in turns.
//
//	go run ./examples/onepass -ledgers 500 -rounds 5
//
// It prints the time and the processor time of both, medians over the rounds, and
// their ratios. The time is from the first ledger to the last one that is durable;
// the processor time is that of all processes, their start included. -inprocess runs the pipeline's components in one process.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/onepass"
)

func main() {
	n := flag.Uint("ledgers", 500, "ledgers of the sample")
	rounds := flag.Int("rounds", 5, "of both, in turns")
	inProcess := flag.Bool("inprocess", false, "the pipeline's components run in one process")
	once := flag.String("once", "", "only do the work once in this process, into this `file`")
	flag.Parse()
	if *once != "" {
		component.BoundMemory() // as the pipeline does
		if err := direct(context.Background(), uint32(*n), *once); err != nil {
			fmt.Fprintln(os.Stderr, "onepass:", err)
			os.Exit(1)
		}
		return
	}
	if err := compare(context.Background(), uint32(*n), *rounds, *inProcess); err != nil {
		fmt.Fprintln(os.Stderr, "onepass:", err)
		os.Exit(1)
	}
}

// taken is the time of one run, and its processor time.
type taken struct{ wall, cpu time.Duration }

func compare(ctx context.Context, n uint32, rounds int, inProcess bool) error {
	if n == 0 || rounds < 1 {
		return errors.New("-ledgers and -rounds are at least 1")
	}
	dir, err := os.MkdirTemp("", "onepass")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "pipeline")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "./examples/pipeline").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	own, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{
		"-ledgers",
		fmt.Sprint(n),
		"-verify=false",
		"-summary",
		"json",
		"-ports",
		"auto",
		"-out",
		filepath.Join(dir, "out"),
	}
	if inProcess {
		args = append(args, "-inprocess")
	}
	var here, there []taken
	for range rounds {
		t, err := run(ctx, own, "-once", filepath.Join(dir, "onepass.parquet"), "-ledgers", fmt.Sprint(n))
		if err != nil {
			return err
		}
		here = append(here, t)
		if t, err = run(ctx, binary, args...); err != nil {
			return err
		}
		there = append(there, t)
	}
	one, all := median(here), median(there)
	fmt.Printf(
		"one process: %v, %v of processor time\n",
		one.wall.Round(time.Millisecond),
		one.cpu.Round(time.Millisecond),
	)
	fmt.Printf(
		"pipeline:    %v, %v of processor time\n",
		all.wall.Round(time.Millisecond),
		all.cpu.Round(time.Millisecond),
	)
	fmt.Printf("the pipeline has %.2f of its speed, for %.2f times the processor time\n",
		one.wall.Seconds()/all.wall.Seconds(), all.cpu.Seconds()/one.cpu.Seconds())
	return nil
}

// summary is what both programs say in the end.
type summary struct {
	Ledgers int     `json:"ledgers"`
	Seconds float64 `json:"duration_seconds"`
}

// direct does the work once, and prints its summary.
func direct(ctx context.Context, n uint32, path string) error {
	src, err := ledgers.NewSample(n)
	if err != nil {
		return err
	}
	bounds, err := src.Bounds(ctx)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	began := time.Now()
	done, err := onepass.Run(ctx, src, bounds, runtime.GOMAXPROCS(0), file)
	if err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(summary{done.Ledgers, time.Since(began).Seconds()})
}

// run runs a program that ends with its summary. Its processor time is that of its
// children, too.
func run(ctx context.Context, program string, args ...string) (t taken, err error) {
	cmd := exec.CommandContext(ctx, program, args...)
	out, err := cmd.Output()
	if err != nil {
		return t, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, out)
	}
	var said summary
	out = bytes.TrimSpace(out)
	if err := json.Unmarshal(out[bytes.LastIndexByte(out, '\n')+1:], &said); err != nil {
		return t, fmt.Errorf("%s: its summary: %w", filepath.Base(program), err)
	}
	return taken{time.Duration(said.Seconds * 1e9), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
}

func median(runs []taken) (m taken) {
	var wall, cpu []time.Duration
	for _, r := range runs {
		wall, cpu = append(wall, r.wall), append(cpu, r.cpu)
	}
	slices.Sort(wall)
	slices.Sort(cpu)
	return taken{wall[len(wall)/2], cpu[len(cpu)/2]}
}
