package source_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
)

// connect serves src on a buffer in memory, with gRPC's default limits on both
// sides, and returns a client.
func connect(t testing.TB, src ledgers.Source, cfg source.Config) (flight.Client, *source.Server) {
	t.Helper()
	srv, err := source.New(src, cfg)
	require.NoError(t, err)
	listener := bufconn.Listen(1 << 20)
	grpcServer := grpc.NewServer(grpc.WaitForHandlers(true))
	flight.RegisterFlightServiceServer(grpcServer, srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = grpcServer.Serve(listener)
	}()
	conn, err := grpc.NewClient("passthrough:///source",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		grpcServer.Stop()
		<-done
	})
	return flight.NewClientFromConn(conn, nil), srv
}

// row is a row of a stream; part bytes joined.
type row struct {
	sequence uint32
	parts    uint32
	xdr      []byte
}

type stream struct {
	rows       []row
	batchRows  []int64
	batchBytes []int
	passphrase string
}

// read runs the stream of a ticket to its end.
func read(t testing.TB, client flight.Client, ticket []byte, opts ...grpc.CallOption) (stream, error) {
	t.Helper()
	var out stream
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	get, err := client.DoGet(ctx, &flight.Ticket{Ticket: ticket}, opts...)
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(get)
	if err != nil {
		return out, err
	}
	defer reader.Release()
	out.passphrase, _ = reader.Schema().Metadata().GetValue(source.MetaPassphrase)
	for {
		rec, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		size := 0
		for i := range int(rec.NumRows()) {
			part := rec.Column(9).(*array.Uint32).Value(i)
			data := bytes.Clone(rec.Column(11).(*array.Binary).Value(i))
			size += len(data)
			if part > 0 {
				last := &out.rows[len(out.rows)-1]
				require.Equal(t, last.sequence, rec.Column(0).(*array.Uint32).Value(i))
				last.xdr = append(last.xdr, data...)
				continue
			}
			out.rows = append(out.rows, row{
				rec.Column(0).(*array.Uint32).Value(i), rec.Column(10).(*array.Uint32).Value(i),
				data,
			})
		}
		out.batchRows = append(out.batchRows, rec.NumRows())
		out.batchBytes = append(out.batchBytes, size)
	}
}

func ticket(first, last uint32) []byte {
	return ledgers.Ticket{Flight: ledgers.FlightName, Range: ledgers.Range{First: first, Last: last}}.Marshal()
}
