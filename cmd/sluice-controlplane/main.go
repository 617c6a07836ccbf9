// Command sluice-controlplane is the control plane of a pipeline: components
// register with it, report their load, and follow its decision.
//
// It needs no configuration to start, and keeps nothing on disk unless -folder says
// where:
//
//	go install github.com/withobsrvr/sluice/cmd/sluice-controlplane@latest
//	sluice-controlplane
//
// The live page is then at http://127.0.0.1:8087/.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane/server"
	"github.com/withobsrvr/sluice/cmd/sluice-controlplane/serve"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// heapGrowth is the collector's goal in percent, unless GOGC says another. Most
// of what the process holds is connections and their stacks, which do not move: at
// Go's 100 percent, ten thousand agents would let it keep 370 MiB of garbage.
const heapGrowth = 35

// run returns the exit code: 0 in the end, 1 for a failure, 2 for bad flags.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet("sluice-controlplane", flag.ContinueOnError)
	flags.SetOutput(stderr)
	grpcAddress := flags.String("grpc", "127.0.0.1:8080", "gRPC `address`")
	httpAddress := flags.String("http", "127.0.0.1:8087", "HTTP `address` of metrics, health and the live page; empty: none")
	activation := flags.Float64("activation", backpressure.DefaultActivation, "`load` (0..1) at which backpressure begins")
	recovery := flags.Float64("recovery", backpressure.DefaultRecovery, "`load` (0..1) at which backpressure ends")
	maxInFlight := flags.Int64("max-in-flight", backpressure.DefaultMaxInFlight, "`messages` in flight over all components that count as a load of 1; 0: no limit")
	policy := flags.String("policy", "gradual", "`name` of the policy: gradual, or step (half while active)")
	driver := flags.String("driver", backpressure.WorstStage.String(), "`load` that drives: worst_stage or aggregate")
	certificate := flags.String("tls-cert", "", "PEM `file` of the server's certificate; switches TLS on")
	key := flags.String("tls-key", "", "PEM `file` of its key")
	clientCA := flags.String("tls-client-ca", "", "PEM `file` of the authorities of client certificates; switches mutual TLS on")
	admins := flags.String("admins", "", "`names` in client certificates, separated by commas, that may change settings")
	tokenFile := flags.String("token-file", "", "`file` with the bearer token that every call must carry")
	adminTokenFile := flags.String("admin-token-file", "", "`file` with the bearer token of callers that may change settings; default: that of -token-file")
	folder := flags.String("folder", "", "`folder` that remembers stock components and changed settings over a restart; empty: nothing is remembered")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	decision := backpressure.Config{Activation: *activation, Recovery: *recovery}
	switch decision.MaxInFlight = *maxInFlight; {
	case *maxInFlight == 0:
		decision.MaxInFlight = -1
	case *maxInFlight < 0:
		fmt.Fprintf(stderr, "sluice-controlplane: -max-in-flight is %d, want a number of messages, or 0 for no limit\n", *maxInFlight)
		return 2
	}
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
	secure, err := tlsConfig(*certificate, *key, *clientCA)
	if err != nil {
		fmt.Fprintln(stderr, "sluice-controlplane:", err)
		return 2
	}
	plane := server.Config{Decision: decision, Folder: *folder}
	if *admins != "" {
		plane.Admins = strings.Split(*admins, ",")
	}
	for file, token := range map[*string]*string{tokenFile: &plane.Token, adminTokenFile: &plane.AdminToken} {
		if *file == "" {
			continue
		}
		if *token, err = readToken(*file); err != nil {
			fmt.Fprintln(stderr, "sluice-controlplane:", err)
			return 2
		}
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
	err = serve.Run(ctx, serve.Config{
		GRPC:   listeners["grpc"],
		HTTP:   listeners["http"],
		Server: plane,
		TLS:    secure,
		Logger: logger,
	})
	if err != nil {
		fmt.Fprintln(stderr, "sluice-controlplane:", err)
		return 1
	}
	return 0
}

// tlsConfig is nil without files.
func tlsConfig(certificate, key, clientCA string) (*tls.Config, error) {
	if certificate == "" && key == "" && clientCA == "" {
		return nil, nil
	}
	if certificate == "" || key == "" {
		return nil, errors.New("-tls-cert and -tls-key go together, and -tls-client-ca needs both")
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, err
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", clientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

func readToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("%s is empty, want a token", file)
	}
	return token, nil
}
