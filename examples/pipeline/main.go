// Command pipeline runs the whole reference pipeline on real Stellar ledgers:
// control plane, source, processor and sink, each as a child process of this
// one, until the input is on disk.
//
//	go run ./examples/pipeline
//
// -h explains the flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/runner"
)

func main() {
	if role := component.Role(os.Getenv(runner.RoleVariable)); role != "" {
		run, ok := programs.All()[role]
		if !ok {
			fmt.Fprintf(os.Stderr, "pipeline: %s=%q names no component\n", runner.RoleVariable, role)
			os.Exit(2)
		}
		os.Exit(runner.RunChild(role, run))
	}
	component.BoundMemory() // for -inprocess
	os.Exit(pipeline())
}

func pipeline() int {
	options, err := runner.ParseOptions(os.Args[1:], os.LookupEnv, os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "pipeline: %v\n", err)
		return 2
	}
	component.Warn(
		os.Stderr,
		"pipeline",
		component.Misspelled(os.Environ(), append(programs.Variables(), runner.Twins()...)),
	)
	component.Warn(os.Stderr, "pipeline", runner.Overridden(os.Environ()))
	interrupts := make(chan os.Signal, 2)
	signal.Notify(interrupts, os.Interrupt, syscall.SIGTERM)
	err = runner.Run(context.Background(), runner.Config{
		Options:      options,
		Env:          os.Environ(),
		Programs:     programs.All(),
		Descriptions: programs.Descriptions(),
		Open:         programs.OpenLedgers,
		Interrupts:   interrupts,
		Out:          os.Stdout,
		Logs:         os.Stderr,
	})
	if errors.Is(err, runner.ErrInterrupted) {
		fmt.Fprintf(os.Stderr, "pipeline: %v\n", err)
		return 130
	}
	return component.Exit("pipeline", os.Stderr, err)
}
