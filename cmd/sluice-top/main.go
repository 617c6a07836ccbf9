// Command sluice-top shows a pipeline in the terminal: its components with
// load, in flight, queue, rates and fraction, as any control plane knows them,
// a stock flowctl one included.
//
//	go install github.com/withobsrvr/sluice/cmd/sluice-top@latest
//	sluice-top                        watch the control plane at 127.0.0.1:8080
//	sluice-top -once host:8080        print once, for scripts
//	sluice-top -o mermaid host:8080   the graph: json, mermaid, dot, svg or ascii
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/topology"
	"github.com/withobsrvr/sluice/topology/page"
)

const defaultAddress = "127.0.0.1:8080"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// options are what flags and environment set.
type options struct {
	address     string
	interval    time.Duration
	once        bool
	output      string
	tls         bool
	ca          string
	certificate string
	key         string
	token       string
	tokenFile   string
	version     bool
	terminal    bool
}

// run returns the exit code: 0 in the end, 1 for a failure, 2 for bad flags.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	opts, err := parse(args, lookup, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "sluice-top:", err)
		return 2
	case opts.version:
		fmt.Fprintln(stdout, "sluice-top", version())
		return 0
	}
	opts.terminal = isTerminal(stdout)
	conn, err := dial(opts)
	if err != nil {
		fmt.Fprintln(stderr, "sluice-top:", err)
		return 2
	}
	defer conn.Close()
	if err := show(ctx, opts, newReader(conn), stdout); err != nil {
		fmt.Fprintf(stderr, "sluice-top: control plane %s: %v\n", opts.address, err)
		return 1
	}
	return 0
}

// version is the module's, as the go command has written it into the program.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func newFlags(opts *options, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("sluice-top", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: sluice-top [flags] [address of a control plane, default %s]\n", defaultAddress)
		fmt.Fprintf(stderr, "Each flag has an environment variable: %s is -token-file, and so on, and\n",
			variable("token-file"))
		fmt.Fprintf(stderr, "%s is the address. What is given wins over its variable.\n\n", variable("address"))
		flags.PrintDefaults()
	}
	flags.DurationVar(&opts.interval, "interval", time.Second, "`time` between two looks")
	flags.BoolVar(&opts.once, "once", false, "print once and exit")
	flags.StringVar(&opts.output, "o", "table",
		"`format`: table, or one of json, mermaid, dot, svg and ascii, which imply -once")
	flags.BoolVar(&opts.tls, "tls", false, "speak TLS, trusting the system's authorities")
	flags.StringVar(&opts.ca, "tls-ca", "", "speak TLS, trusting the authorities in this PEM `file`")
	flags.StringVar(&opts.certificate, "tls-cert", "", "PEM `file` of a client certificate, for mutual TLS")
	flags.StringVar(&opts.key, "tls-key", "", "PEM `file` of its key")
	flags.StringVar(&opts.token, "token", "", "bearer `token`; needs TLS or a loopback address")
	flags.StringVar(&opts.tokenFile, "token-file", "", "`file` with the bearer token, which other users then do not see")
	flags.BoolVar(&opts.version, "version", false, "print the version and exit")
	return flags
}

// variable is the environment variable of a flag.
func variable(flag string) string {
	return "SLUICE_TOP_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// parse reads the flags and, for those that are not given, the environment. It
// joins all problems, each with the name of its flag or variable: a user mends them
// at once. [flag.ErrHelp] means that help was asked for, and printed.
func parse(args []string, lookup func(string) (string, bool), stderr io.Writer) (options, error) {
	var opts options
	flags := newFlags(&opts, stderr)
	if err := flags.Parse(args); err != nil {
		return opts, err
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
	opts.address = defaultAddress
	if value, ok := lookup(variable("address")); ok && value != "" {
		opts.address = value
	}
	switch flags.NArg() {
	case 0:
	case 1:
		opts.address = flags.Arg(0)
	default:
		problems = append(problems, fmt.Errorf("%d addresses, want one at most", flags.NArg()))
	}
	return opts, errors.Join(append(problems, opts.check())...)
}

// check names the flag of each setting that is wrong, and reads the token.
func (opts *options) check() error {
	var problems []error
	if opts.interval < 100*time.Millisecond {
		problems = append(problems, fmt.Errorf("-interval is %v, want 100ms or more", opts.interval))
	}
	if _, ok := writers[opts.output]; !ok && opts.output != "table" {
		problems = append(problems, fmt.Errorf("-o is %q, want table, json, mermaid, dot, svg or ascii", opts.output))
	}
	if (opts.certificate == "") != (opts.key == "") {
		problems = append(problems, errors.New("-tls-cert and -tls-key are given together or not at all"))
	}
	switch {
	case opts.tokenFile == "":
	case opts.token != "":
		problems = append(problems, errors.New("-token and -token-file are both given"))
	default:
		text, err := os.ReadFile(opts.tokenFile)
		if opts.token = strings.TrimSpace(string(text)); err == nil && opts.token == "" {
			err = fmt.Errorf("%s is empty", opts.tokenFile)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("-token-file: %w", err))
		}
	}
	return errors.Join(problems...)
}

// writers are the graph's forms besides the table.
var writers = map[string]func(io.Writer, *topology.Graph) error{
	"json":    func(w io.Writer, g *topology.Graph) error { return g.WriteJSON(w) },
	"mermaid": page.WriteMermaid,
	"dot":     page.WriteDOT,
	"svg":     page.WriteSVG,
	"ascii":   page.WriteASCII,
}

// dial prepares the connection; the first call makes it. A certificate or an
// authority means TLS, without -tls beside it: a user who names one does not want to be
// connected in the clear.
func dial(opts options) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if opts.tls || opts.ca != "" || opts.certificate != "" {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if opts.ca != "" {
			pem, err := os.ReadFile(opts.ca)
			if err != nil {
				return nil, fmt.Errorf("-tls-ca: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("-tls-ca: %s holds no PEM certificate", opts.ca)
			}
		}
		if opts.certificate != "" {
			own, err := tls.LoadX509KeyPair(opts.certificate, opts.key)
			if err != nil {
				return nil, fmt.Errorf("-tls-cert, -tls-key: %w", err)
			}
			config.Certificates = []tls.Certificate{own}
		}
		transport = credentials.NewTLS(config)
	}
	dialOptions := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if opts.token != "" {
		dialOptions = append(dialOptions, grpc.WithPerRPCCredentials(bearer{token: opts.token, address: opts.address}))
	}
	conn, err := grpc.NewClient(opts.address, dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", opts.address, err)
	}
	return conn, nil
}

// show prints the pipeline once, or again and again until ctx ends. A control plane
// that cannot be reached at first is an error; one that is lost later is not: the
// last table stays, says that it is old, and is replaced when the plane is back.
func show(ctx context.Context, opts options, from *reader, stdout io.Writer) error {
	graph, err := from.read(ctx)
	if err != nil {
		return err
	}
	if write, ok := writers[opts.output]; ok {
		return write(stdout, graph)
	}
	screen := screen{to: stdout, colors: opts.terminal, address: opts.address}
	if opts.once {
		return screen.print(graph)
	}
	ticker := time.NewTicker(opts.interval)
	defer ticker.Stop()
	for {
		if opts.terminal {
			// Home, and clear what is below, in one write with the table: no flicker.
			screen.prefix = "\x1b[H\x1b[J"
		}
		if err := screen.print(graph); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		fresh, err := from.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		screen.lost = err // the last table stays, and says that it is old
		if err == nil {
			graph = fresh
		}
	}
}

// isTerminal reports whether colours and cursor movements make sense: a pipe and a
// file get neither.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
