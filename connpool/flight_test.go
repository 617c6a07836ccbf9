package connpool_test

import (
	"context"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/schema_ref"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

var numbers = arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)

// A flightServer sends a batch, and then one more for a ticket "two", or waits.
type flightServer struct {
	flight.BaseFlightServer
}

func (*flightServer) DoGet(ticket *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	b := array.NewRecordBuilder(memory.DefaultAllocator, numbers)
	defer b.Release()
	w := flight.NewRecordWriter(stream, ipc.WithSchema(numbers))
	defer w.Close()
	for range 2 {
		b.Field(0).(*array.Int64Builder).Append(1)
		batch := b.NewRecordBatch()
		err := w.Write(batch)
		batch.Release()
		if err != nil {
			return err
		}
		if string(ticket.GetTicket()) != "two" {
			<-stream.Context().Done()
			return stream.Context().Err()
		}
	}
	return nil
}

func startFlight(t *testing.T) *connpool.Pool {
	return serveFlight(t, &flightServer{}, connpool.Config{})
}

func serveFlight(
	t *testing.T, service flight.FlightServer, cfg connpool.Config, opts ...grpc.ServerOption,
) *connpool.Pool {
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(opts...)
	flight.RegisterFlightServiceServer(server, service)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	cfg.Credentials = insecure.NewCredentials()
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
	cfg.DialOptions = []grpc.DialOption{grpc.WithContextDialer(dial)}
	pool, err := connpool.New("passthrough:///flight", cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

// A Flight client closes the connection that it was given; the pool's shared
// view leaves the pool open, the pool itself does not.
func TestFlightClientsShareAPool(t *testing.T) {
	pool := startFlight(t)
	for range 3 {
		client := flight.NewClientFromConn(pool.Shared(), nil)
		stream, err := client.DoGet(t.Context(), &flight.Ticket{Ticket: []byte("two")})
		require.NoError(t, err)
		reader, err := flight.NewRecordReader(stream)
		require.NoError(t, err)
		rows := int64(0)
		for reader.Next() {
			rows += reader.RecordBatch().NumRows()
		}
		require.NoError(t, reader.Err())
		reader.Release()
		require.EqualValues(t, 2, rows)
		require.NoError(t, client.Close())
	}
	require.Zero(t, pool.Stats().Streams)
	require.Positive(t, pool.Stats().HealthyConnections)

	require.NoError(t, flight.NewClientFromConn(pool, nil).Close())
	_, err := flight.NewClientFromConn(pool.Shared(), nil).DoGet(t.Context(), &flight.Ticket{})
	require.ErrorIs(t, err, connpool.ErrClosed)
}

// Readers that were released but neither read to the end nor cancelled leak
// their streams for ever; the pool takes them back. This runs on real time:
// cleanups run outside of a bubble.
func TestAbandonedReadersAreReclaimed(t *testing.T) {
	const readers = 50
	pool := startFlight(t)
	client := flight.NewClientFromConn(pool.Shared(), nil)
	kept, err := client.DoGet(t.Context(), &flight.Ticket{})
	require.NoError(t, err)
	for range readers {
		abandonReader(t, client)
	}
	require.Eventually(t, func() bool {
		runtime.GC()
		return pool.Stats().Streams == 1
	}, time.Minute, 50*time.Millisecond)
	require.EqualValues(t, readers, pool.Stats().Abandoned)
	_, err = kept.Recv()
	require.NoError(t, err, "one that is held is left alone")
}

func abandonReader(t *testing.T, client flight.Client) {
	stream, err := client.DoGet(t.Context(), &flight.Ticket{})
	require.NoError(t, err)
	reader, err := flight.NewRecordReader(stream)
	require.NoError(t, err)
	require.True(t, reader.Next())
	reader.Release()
}

type sqlServer struct{ flightsql.BaseServer }

func (*sqlServer) GetFlightInfoCatalogs(_ context.Context, d *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	endpoint := &flight.FlightEndpoint{Ticket: &flight.Ticket{Ticket: d.Cmd}}
	return &flight.FlightInfo{Endpoint: []*flight.FlightEndpoint{endpoint}, FlightDescriptor: d}, nil
}

func (*sqlServer) DoGetCatalogs(context.Context) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema_ref.Catalogs)
	defer b.Release()
	b.Field(0).(*array.StringBuilder).Append("stellar")
	chunks := make(chan flight.StreamChunk, 1)
	chunks <- flight.StreamChunk{Data: b.NewRecordBatch()}
	close(chunks)
	return schema_ref.Catalogs, chunks, nil
}

// Flight SQL takes a pool as any other connection.
func TestFlightSQL(t *testing.T) {
	pool := serveFlight(t, flightsql.NewFlightServer(&sqlServer{}), connpool.Config{})
	client := flightsql.Client{Client: flight.NewClientFromConn(pool.Shared(), nil), Alloc: memory.DefaultAllocator}
	info, err := client.GetCatalogs(t.Context())
	require.NoError(t, err)
	reader, err := client.DoGet(t.Context(), info.GetEndpoint()[0].GetTicket())
	require.NoError(t, err)
	defer reader.Release()
	require.True(t, reader.Next())
	require.Equal(t, "stellar", reader.RecordBatch().Column(0).ValueStr(0))
	require.False(t, reader.Next())
	require.NoError(t, client.Close())
	require.Zero(t, pool.Stats().Streams)
}
