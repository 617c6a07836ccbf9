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
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	address  string
	interval time.Duration
	once     bool
	output   string
	tls      bool
	ca       string
	token    string
	terminal bool
}

// run returns the exit code: 0 in the end, 1 for a failure, 2 for bad flags.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(stderr, "sluice-top:", err)
			return 2
		}
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

func parse(args []string, stderr io.Writer) (options, error) {
	var opts options
	flags := flag.NewFlagSet("sluice-top", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: sluice-top [flags] [address of a control plane, default %s]\n", defaultAddress)
		flags.PrintDefaults()
	}
	flags.DurationVar(&opts.interval, "interval", time.Second, "`time` between two looks")
	flags.BoolVar(&opts.once, "once", false, "print once and exit")
	flags.StringVar(&opts.output, "o", "table", "`format`: table, or one of json, mermaid, dot, svg and ascii, which imply -once")
	flags.BoolVar(&opts.tls, "tls", false, "speak TLS, trusting the system's authorities")
	flags.StringVar(&opts.ca, "ca", "", "speak TLS, trusting the authorities in this PEM `file`")
	flags.StringVar(&opts.token, "token", os.Getenv("SLUICE_TOKEN"), "bearer `token`; needs TLS or a loopback address (environment: SLUICE_TOKEN)")
	if err := flags.Parse(args); err != nil {
		return opts, err
	}
	opts.address = defaultAddress
	switch flags.NArg() {
	case 0:
	case 1:
		opts.address = flags.Arg(0)
	default:
		return opts, fmt.Errorf("%d addresses, want one at most", flags.NArg())
	}
	if opts.interval < 100*time.Millisecond {
		return opts, fmt.Errorf("-interval is %v, want 100ms or more", opts.interval)
	}
	if _, ok := writers[opts.output]; !ok && opts.output != "table" {
		return opts, fmt.Errorf("-o is %q, want table, json, mermaid, dot, svg or ascii", opts.output)
	}
	return opts, nil
}

// writers are the graph's forms besides the table.
var writers = map[string]func(io.Writer, *topology.Graph) error{
	"json":    func(w io.Writer, g *topology.Graph) error { return g.WriteJSON(w) },
	"mermaid": page.WriteMermaid,
	"dot":     page.WriteDOT,
	"svg":     page.WriteSVG,
	"ascii":   page.WriteASCII,
}

func dial(opts options) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if opts.tls || opts.ca != "" {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if opts.ca != "" {
			pem, err := os.ReadFile(opts.ca)
			if err != nil {
				return nil, fmt.Errorf("-ca: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("-ca: %s holds no PEM certificate", opts.ca)
			}
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

// show prints the pipeline once, or again and again until ctx ends.
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
		screen.lost = err // the last picture stays, and says that it is old
		if err == nil {
			graph = fresh
		}
	}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
