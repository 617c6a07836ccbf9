// Command verify compares the files of a run folder, column by column, with the
// Stellar SDK run directly over the same ledgers.
//
//	go run ./examples/verify sluice-out/run-20260101-120000
//
// Which ledgers these are the folder's checkpoint says. Where a data lake or a
// Stellar RPC server is, the same variables say as for stellar-arrow-source.
// It ends with status 0 when all columns agree, 1 when they do not or a file is
// damaged, 2 after a mistake in the command, and 4 when all that is there
// agrees but the run was not finished.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/programs"
	"github.com/withobsrvr/sluice/examples/internal/verify"
)

func main() {
	if len(os.Args) != 2 || os.Args[1] == "" || os.Args[1][0] == '-' {
		fmt.Fprintln(os.Stderr, "usage: verify DIR\n\nDIR is the folder of a run, which holds checkpoint.json.")
		os.Exit(component.ExitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(
		component.Exit("verify", os.Stderr, verify.Run(ctx, os.Args[1], os.LookupEnv, programs.OpenLedgers, os.Stdout)),
	)
}
