package flight_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
)

// A variant is one way to run the same server and client.
type variant struct {
	name    string
	options []grpc.ServerOption
	dial    []grpc.DialOption
}

func gate(t testing.TB, cfg flowcontrol.Config) *flowcontrol.Throttler {
	g, err := flowcontrol.New(cfg)
	require.NoError(t, err)
	return g
}

// The rates are above what the machine moves, so that nothing waits: what is
// measured is the work of the gate, not its effect.
func wide() flowcontrol.Config {
	return flowcontrol.Config{
		Limit: flowcontrol.Cost{Messages: 1000, Rows: 1 << 40, Bytes: 1 << 40},
		Rate:  flowcontrol.Rates{Messages: 1e9, Bytes: 1e13}, Burst: flowcontrol.Cost{Messages: 1 << 30, Bytes: 1 << 43},
	}
}

func variants(t testing.TB) []variant {
	server := func(cfg interceptors.ServerConfig) []grpc.ServerOption {
		s, err := interceptors.NewServer(cfg)
		require.NoError(t, err)
		return s.ServerOptions()
	}
	client, err := interceptors.NewClient(interceptors.ClientConfig{Throttler: gate(t, wide())})
	require.NoError(t, err)
	return []variant{
		{name: "none"},
		{name: "tracking", options: server(interceptors.ServerConfig{})},
		{name: "tokens", options: server(interceptors.ServerConfig{Throttler: gate(t, wide())})},
		{
			name:    "tokens, both sides",
			options: server(interceptors.ServerConfig{Throttler: gate(t, wide())}),
			dial:    client.DialOptions(),
		},
	}
}

// run is a server and a client of one variant, on a loopback port.
type run struct {
	client flight.Client
	body   int
}

func start(t testing.TB, v variant, message *flight.FlightData, n int) run {
	server := flight.NewServerWithMiddleware(nil, v.options...)
	server.RegisterFlightService(&interceptorstest.Service{Send: []*flight.FlightData{message}, Repeat: n})
	require.NoError(t, server.Init("127.0.0.1:0"))
	go func() { _ = server.Serve() }()
	options := append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, v.dial...)
	client, err := flight.NewClientWithMiddleware(server.Addr().String(), nil, nil, options...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = client.Close()
		server.Shutdown()
	})
	return run{client, len(message.DataBody)}
}

func (r run) get(ctx context.Context) error {
	stream, err := r.client.DoGet(ctx, &flight.Ticket{})
	if err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// TestDoGetTable prints a table. It asserts nothing about time; SLUICE_ROUNDS
// sets how many rounds it takes (3 where it only has to run).
func TestDoGetTable(t *testing.T) {
	rounds := 3
	if s := os.Getenv("SLUICE_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		rounds = n
	}
	var table strings.Builder
	fmt.Fprintln(
		&table,
		"| batch | variant | CPU a message, median | least | MB/s, best | allocs a message |\n|---|---|---|---|---|---|",
	)
	for _, size := range []struct {
		name string
		rows int
		n    int
	}{{"1 KiB", 128, 4000}, {"64 KiB", 8 << 10, 400}, {"1 MiB", 128 << 10, 40}} {
		message := interceptorstest.Batches(t, 1, size.rows)[1]
		vs := variants(t)
		runs := make([]run, len(vs))
		for i, v := range vs {
			runs[i] = start(t, v, message, size.n)
			require.NoError(t, runs[i].get(t.Context())) // warm
		}
		costs, best, allocs := make([][]float64, len(vs)), make([]float64, len(vs)), make([][]float64, len(vs))
		var before, after runtime.MemStats
		for round := range rounds {
			for i := range vs {
				k := (i + round) % len(vs) // no variant always follows the same one
				runtime.GC()
				runtime.ReadMemStats(&before)
				began, used := time.Now(), cpu(t)
				require.NoError(t, runs[k].get(t.Context()))
				used, took := cpu(t)-used, time.Since(began)
				runtime.ReadMemStats(&after)
				costs[k] = append(costs[k], float64(used)/float64(size.n))
				best[k] = max(best[k], float64(runs[k].body*size.n)/took.Seconds()/1e6)
				allocs[k] = append(allocs[k], float64(after.Mallocs-before.Mallocs)/float64(size.n))
			}
		}
		for i, v := range vs {
			m := median(costs[i])
			fmt.Fprintf(
				&table,
				"| %s | %s | %.2f µs | %.2f µs | %.0f | %.1f |\n",
				size.name,
				v.name,
				m/1e3,
				slices.Min(costs[i])/1e3,
				best[i],
				median(allocs[i]),
			)
		}
	}
	t.Logf("%d interleaved rounds\n%s", rounds, table.String())
}
