// Command sluice-controlplane is the control plane of a pipeline: components
// register with it, report their load, and follow its decision.
//
// It needs no configuration to start:
//
//	go install github.com/withobsrvr/sluice/cmd/sluice-controlplane@latest
//	sluice-controlplane
//
// The live page is then at http://127.0.0.1:8087/. What a restart must not forget,
// registrations of stock flowctl components and changed settings, is kept in a folder
// of the user's cache; -folder chooses another, or none.
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
	"path/filepath"
	"runtime/debug"
	"strconv"
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
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// heapGrowth is the collector's goal in percent, unless GOGC says another. Most
// of what the process holds is connections and their stacks, which do not move: at
// Go's 100 percent, ten thousand agents would let it keep 370 MiB of garbage.
const heapGrowth = 35

// settings are what the flags say.
type settings struct {
	grpc, http                 string
	decision                   backpressure.Config
	policy                     string
	certificate, key, clientCA string
	admins                     string
	tokenFile, adminTokenFile  string
	folder                     string
	version                    bool
}

func newFlags(s *settings, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("sluice-controlplane", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.grpc, "grpc", "127.0.0.1:8080", "gRPC `address`")
	flags.StringVar(&s.http, "http", "127.0.0.1:8087", "HTTP `address` of metrics, health and the live page; empty: none")
	flags.Float64Var(
		&s.decision.Activation, "activation", backpressure.DefaultActivation, "`load` (0..1) at which backpressure begins",
	)
	flags.Float64Var(
		&s.decision.Recovery, "recovery", backpressure.DefaultRecovery, "`load` (0..1) at which backpressure ends",
	)
	flags.Int64Var(&s.decision.MaxInFlight, "max-in-flight", backpressure.DefaultMaxInFlight,
		"`messages` in flight over all components that count as a load of 1; 0: no limit")
	flags.StringVar(&s.policy, "policy", "gradual", "`name` of the policy: gradual, or step (half while active)")
	flags.TextVar(&s.decision.Driver, "driver", backpressure.WorstStage, "`load` that drives: worst_stage or aggregate")
	flags.StringVar(&s.certificate, "tls-cert", "", "PEM `file` of the server's certificate; switches TLS on")
	flags.StringVar(&s.key, "tls-key", "", "PEM `file` of its key")
	flags.StringVar(
		&s.clientCA, "tls-client-ca", "", "PEM `file` of the authorities of client certificates; switches mutual TLS on",
	)
	flags.StringVar(
		&s.admins, "admins", "", "`names` in client certificates, separated by commas, that may change settings",
	)
	flags.StringVar(&s.tokenFile, "token-file", "", "`file` with the bearer token that every call must carry")
	flags.StringVar(&s.adminTokenFile, "admin-token-file", "",
		"`file` with the bearer token of callers that may change settings; default: that of -token-file")
	flags.StringVar(&s.folder, "folder", ownFolder,
		"`folder` that remembers stock components and changed settings over a restart;\n"+
			"auto: one for each -grpc address, in the user's cache; empty: nothing is remembered")
	flags.BoolVar(&s.version, "version", false, "print the version and end")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "sluice-controlplane is the control plane of a pipeline. Each flag has an environment variable:")
		fmt.Fprintf(stderr, "%s is -max-in-flight, and so on. A flag wins over its variable.\n\n", variable("max-in-flight"))
		flags.PrintDefaults()
	}
	return flags
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "FLOWCTL_CONTROLPLANE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// parse reads the flags and, for those that are not given, the environment.
func parse(args []string, lookup func(string) (string, bool), stderr io.Writer) (s settings, err error) {
	flags := newFlags(&s, stderr)
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag: sluice-controlplane takes flags only", flags.Arg(0))
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var problems []error
	flags.VisitAll(func(f *flag.Flag) {
		if value, ok := lookup(variable(f.Name)); ok && !given[f.Name] {
			if err := flags.Set(f.Name, value); err != nil {
				problems = append(problems, fmt.Errorf("%s is %q: %w", variable(f.Name), value, err))
			}
		}
	})
	return s, errors.Join(append(problems, s.check())...)
}

// check names the flag of each setting that is wrong.
func (s *settings) check() error {
	var problems []error
	wrong := func(flag string, value any, want string) {
		problems = append(problems, fmt.Errorf("-%s is %v, want %s", flag, value, want))
	}
	d := &s.decision
	if !(d.Activation > 0 && d.Activation <= 1) {
		wrong("activation", d.Activation, "above 0 and at most 1")
	}
	if !(d.Recovery > 0 && d.Recovery < d.Activation) {
		wrong("recovery", d.Recovery, fmt.Sprintf("above 0 and below -activation (%v)", d.Activation))
	}
	switch {
	case d.MaxInFlight == 0:
		d.MaxInFlight = -1
	case d.MaxInFlight < 0:
		wrong("max-in-flight", d.MaxInFlight, "a number of messages, or 0 for no limit")
	}
	switch s.policy {
	case "gradual":
	case "step":
		d.Policy = backpressure.Step{}
	default:
		wrong("policy", strconv.Quote(s.policy), "gradual or step")
	}
	return errors.Join(problems...)
}

// server is the configuration of the control plane itself.
func (s *settings) server() (server.Config, error) {
	cfg := server.Config{Decision: s.decision}
	if s.admins != "" {
		cfg.Admins = strings.Split(s.admins, ",")
	}
	var err error
	if cfg.Token, err = readToken("token-file", s.tokenFile); err != nil {
		return cfg, err
	}
	cfg.AdminToken, err = readToken("admin-token-file", s.adminTokenFile)
	return cfg, err
}

// ownFolder stands for a folder that the program chooses.
const ownFolder = "auto"

// openFolder returns the folder to remember in, which exists then; "" is none. The
// program's own is one for each address, because an address has one server at a time.
// Without a home, or where nothing can be written, the program runs without it.
func (s *settings) openFolder(log *slog.Logger) (string, error) {
	folder := s.folder
	if folder == ownFolder {
		cache, err := os.UserCacheDir()
		_, port, _ := net.SplitHostPort(s.grpc)
		if err != nil || port == "" || port == "0" { // 0: another one at the next start
			log.Info("stock components and settings are not remembered over a restart; -folder says where")
			return "", nil
		}
		folder = filepath.Join(cache, "sluice-controlplane", strings.NewReplacer(":", "_", "[", "", "]", "").Replace(s.grpc))
	}
	if folder == "" {
		return "", nil
	}
	err := os.MkdirAll(folder, 0o700)
	if err != nil && s.folder == ownFolder {
		log.Warn("stock components and settings are not remembered over a restart; -folder says where", "error", err)
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("-folder: %w", err)
	}
	log.Info("stock components and settings are remembered over a restart", "folder", folder)
	return folder, nil
}

// run returns the exit code: 0 in the end, 1 for a failure, 2 for bad flags.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintln(stderr, "sluice-controlplane:", err)
		return code
	}
	s, err := parse(args, lookup, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return fail(2, err)
	case s.version:
		fmt.Fprintln(stdout, "sluice-controlplane", version())
		return 0
	}
	secure, err := tlsConfig(s.certificate, s.key, s.clientCA)
	if err != nil {
		return fail(2, err)
	}
	plane, err := s.server()
	if err != nil {
		return fail(2, err)
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if plane.Folder, err = s.openFolder(log); err != nil {
		return fail(2, err)
	}
	cfg := serve.Config{Server: plane, TLS: secure, Version: version(), Logger: log}
	if cfg.GRPC, err = net.Listen("tcp", s.grpc); err != nil {
		return fail(1, fmt.Errorf("%w; -grpc chooses another address", err))
	}
	if s.http != "" {
		if cfg.HTTP, err = net.Listen("tcp", s.http); err != nil {
			cfg.GRPC.Close()
			return fail(1, fmt.Errorf("%w; -http chooses another address", err))
		}
	}
	if err := serve.Run(ctx, cfg); err != nil {
		if errors.Is(err, server.ErrFolder) {
			err = fmt.Errorf("-folder: %w", errors.Unwrap(err))
		}
		return fail(1, err)
	}
	return 0
}

// version is the module's, as go install recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
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
		return nil, fmt.Errorf("-tls-cert and -tls-key: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, fmt.Errorf("-tls-client-ca: %w", err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("-tls-client-ca: no certificate in %s", clientCA)
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return cfg, nil
}

// readToken reads the token that flag names, "" without a file.
func readToken(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("-%s: %w", flag, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return "", fmt.Errorf("-%s: %s is empty, want a token", flag, file)
	}
	return token, nil
}
