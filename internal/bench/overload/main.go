package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"regexp"
	"runtime"
	"strings"
	"time"
)

func main() {
	asChild()
	var l lengths
	flag.DurationVar(&l.warm, "warm", 5*time.Second, "time before the measurement")
	flag.DurationVar(&l.measured, "for", 10*time.Second, "time measured")
	flag.DurationVar(&l.minute, "minute", time.Minute, "time before the measurement, in the row after a long overload")
	flag.DurationVar(&l.burst, "burst", 8*time.Second, "how long the burst and the doubled service time last")
	flag.IntVar(&l.slow, "slow", 1, "stretches service time and deadline and divides the capacity, for a busy machine")
	seeds := flag.Uint64("seeds", 3, "runs of each cell; it prints their medians")
	rows := flag.String("rows", "", "only the rows whose name this regular expression matches")
	only := flag.String("controls", "", "only the controls whose name this regular expression matches")
	list := flag.Bool("list", false, "print rows and controls, and how long all takes")
	flag.Parse()
	row, err := regexp.Compile(*rows)
	if err != nil {
		log.Fatal("-rows: ", err)
	}
	column, err := regexp.Compile(*only)
	if err != nil {
		log.Fatal("-controls: ", err)
	}
	if *seeds == 0 || l.slow <= 0 || l.warm <= 0 || l.measured <= 0 || l.minute <= 0 || l.burst <= 0 {
		log.Fatal("-seeds, -slow and all durations must be above 0")
	}
	var chosen []scenario
	for _, s := range scenarios(l) {
		if row.MatchString(s.name) {
			chosen = append(chosen, s)
		}
	}
	if *list {
		var all time.Duration
		for _, s := range chosen {
			cells := matching(s.controls(), column)
			all += s.lasts() * time.Duration(*seeds) * time.Duration(len(cells))
			fmt.Println(s.name, cells)
		}
		fmt.Println("together about", all.Round(time.Second))
		return
	}
	for stages := 1; stages <= 2; stages++ {
		if err := table(os.Stdout, chosen, stages, column, *seeds); err != nil {
			log.Fatal(err)
		}
	}
}

func matching(all []control, name *regexp.Regexp) (some []control) {
	for _, c := range all {
		if name.MatchString(c.String()) {
			some = append(some, c)
		}
	}
	return some
}

var legends = map[int]string{
	1: "goodput / p99 in ms / server's CPU time in µs for each request offered " +
		"(doubled service time and greedy client: without the CPU time)",
	2: "goodput / p99 in ms / units of work of the first stage for each request that ended well",
}

// table runs the scenarios of that many stages and prints them, each row when it is done.
func table(w io.Writer, all []scenario, stages int, column *regexp.Regexp, seeds uint64) error {
	var head []control
	for _, s := range all {
		if s.stages != stages {
			continue
		}
		if head == nil {
			head = matching(s.controls(), column)
			fmt.Fprintf(
				w, "\n%s; medians of %d seeds; %d CPUs; %s.\n\n", legends[stages], seeds, runtime.NumCPU(), runtime.Version(),
			)
			fmt.Fprintf(w, "| load | %s | load average |\n|---|%s---|\n", join(head), strings.Repeat("---|", len(head)))
		}
		cells := make([][][]float64, len(head))
		for seed := range seeds {
			for i, c := range head { // they take turns
				r, err := run(s, c, seed+1)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, c, err)
				}
				cells[i] = append(cells[i], s.figures(r))
			}
		}
		fmt.Fprintf(w, "| %s |", s.name)
		for _, runs := range cells {
			values := make([]any, 0, 4)
			for _, v := range medians(runs) {
				values = append(values, v)
			}
			fmt.Fprintf(w, " "+s.format+" |", values...)
		}
		fmt.Fprintf(w, " %s |\n", loadAverage())
	}
	return nil
}

func join(all []control) string {
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.String()
	}
	return strings.Join(names, " | ")
}

// loadAverage is the machine's, of the last minute: what else ran.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
