// Command sluice-controlplane is the control plane of a pipeline: components
// register with it, report their load, and follow its decision.
//
// It keeps nothing on disk, and needs no configuration to start:
//
//	go install github.com/withobsrvr/sluice/backpressure/controlplane/cmd/sluice-controlplane@latest
//	sluice-controlplane
//
// The live page is then at http://127.0.0.1:8087/.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/cmd/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run returns the exit code: 0 in the end, 1 for a failure, 2 for bad flags.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("sluice-controlplane", flag.ContinueOnError)
	flags.SetOutput(stderr)
	grpcAddress := flags.String("grpc", "127.0.0.1:8080", "gRPC `address`")
	httpAddress := flags.String("http", "127.0.0.1:8087", "HTTP `address` of metrics, health and the live page; empty: none")
	activation := flags.Float64("activation", backpressure.DefaultActivation, "`load` (0..1) at which backpressure begins")
	recovery := flags.Float64("recovery", backpressure.DefaultRecovery, "`load` (0..1) down to which it must come to end")
	policy := flags.String("policy", "gradual", "`name` of the policy: gradual, or step (half while active)")
	driver := flags.String("driver", backpressure.WorstStage.String(), "`load` that drives: worst_stage or aggregate")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	decision := backpressure.Config{Activation: *activation, Recovery: *recovery}
	switch *policy {
	case "gradual":
	case "step":
		decision.Policy = backpressure.Step{}
	default:
		fmt.Fprintf(stderr, "sluice-controlplane: -policy is %q, want gradual or step\n", *policy)
		return 2
	}
	switch *driver {
	case backpressure.WorstStage.String():
	case backpressure.Aggregate.String():
		decision.Driver = backpressure.Aggregate
	default:
		fmt.Fprintf(stderr, "sluice-controlplane: -driver is %q, want worst_stage or aggregate\n", *driver)
		return 2
	}
	listeners := map[string]net.Listener{}
	for name, address := range map[string]string{"grpc": *grpcAddress, "http": *httpAddress} {
		if address == "" {
			continue
		}
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintf(stderr, "sluice-controlplane: %v; -%s chooses another address\n", err, name)
			return 1
		}
		listeners[name] = listener
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	err := program.Run(ctx, program.Config{
		GRPC:   listeners["grpc"],
		HTTP:   listeners["http"],
		Server: controlplane.ServerConfig{Decision: decision},
		Logger: logger,
	})
	if err != nil {
		fmt.Fprintln(stderr, "sluice-controlplane:", err)
		return 1
	}
	return 0
}
