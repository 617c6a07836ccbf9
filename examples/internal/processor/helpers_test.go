package processor_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/examples/internal/events"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/processor"
	"github.com/withobsrvr/sluice/examples/internal/source"
)

// listen serves srv on a buffer in memory, with gRPC's default limits, and
// returns how to dial it.
func listen(t testing.TB, srv flight.FlightServer) []grpc.DialOption {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer(grpc.WaitForHandlers(true))
	flight.RegisterFlightServiceServer(grpcServer, srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = grpcServer.Serve(listener)
	}()
	t.Cleanup(func() {
		grpcServer.Stop()
		<-done
	})
	return []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
	}
}

// serve serves srv as listen does and returns a connection to it.
func serve(t testing.TB, srv flight.FlightServer) *grpc.ClientConn {
	t.Helper()
	insecurely := grpc.WithTransportCredentials(insecure.NewCredentials())
	conn, err := grpc.NewClient("passthrough:///buffer", append(listen(t, srv), insecurely)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

// pipeline is a source, a processor that reads it, and a client of both.
type pipeline struct {
	client    flight.Client
	processor *processor.Server
	source    *source.Server
}

func start(t testing.TB, src ledgers.Source, srcCfg source.Config, cfg processor.Config) pipeline {
	t.Helper()
	from, err := source.New(src, srcCfg)
	require.NoError(t, err)
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	t.Cleanup(func() { mem.AssertSize(t, 0) }) // runs when both servers stopped
	cfg.Source, cfg.Allocator = serve(t, from), mem
	srv, err := processor.New(cfg)
	require.NoError(t, err)
	return pipeline{flight.NewClientFromConn(serve(t, srv), nil), srv, from}
}

// batch is a batch as a consumer gets it.
type batch struct {
	info events.BatchInfo
	rows []events.Event
}

// open asks for a range. Its read returns batches until io.EOF.
func open(
	t testing.TB,
	ctx context.Context,
	client flight.Client,
	first, last uint32,
) (read func() (batch, error), err error) {
	t.Helper()
	return openTicket(
		t,
		ctx,
		client,
		ledgers.Ticket{Flight: "ttp_events", Range: ledgers.Range{First: first, Last: last}}.Marshal(),
	)
}

func openTicket(
	t testing.TB,
	ctx context.Context,
	client flight.Client,
	ticket []byte,
) (read func() (batch, error), err error) {
	t.Helper()
	get, err := client.DoGet(ctx, &flight.Ticket{Ticket: ticket})
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(get)
	if err != nil {
		return nil, err
	}
	t.Cleanup(reader.Release)
	require.NoError(t, events.CheckSchema(reader.Schema()))
	return func() (batch, error) {
		rec, err := reader.Read()
		if err != nil {
			return batch{}, err
		}
		info, err := events.ParseBatchInfo(reader.LatestAppMetadata())
		require.NoError(t, err)
		rows, err := events.Decode(rec)
		require.NoError(t, err)
		return batch{info, rows}, nil
	}, nil
}

// readAll reads a range to its end or to its error.
func readAll(t testing.TB, client flight.Client, first, last uint32) ([]batch, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, err := open(t, ctx, client, first, last)
	if err != nil {
		return nil, err
	}
	var all []batch
	for {
		b, err := read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, b)
	}
}
