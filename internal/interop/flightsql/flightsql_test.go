package flightsql_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
	"github.com/withobsrvr/sluice/interceptors/interceptorstest"
	sqlite "github.com/withobsrvr/sluice/internal/interop/flightsql"
)

func newPool(t *testing.T, address string, client *interceptors.Client) *connpool.Pool {
	pool, err := connpool.New(
		address,
		connpool.Config{Credentials: insecure.NewCredentials(), DialOptions: client.DialOptions()},
	)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

func newClient(t *testing.T) (*interceptors.Client, *flowcontrol.Throttler) {
	gate, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 4}})
	require.NoError(t, err)
	client, err := interceptors.NewClient(interceptors.ClientConfig{Throttler: gate, ReapInterval: 100 * time.Millisecond})
	require.NoError(t, err)
	return client, gate
}

// through sends every call of a client that dials for itself through the pool.
func through(pool *connpool.Pool) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, _ *grpc.ClientConn,
				_ grpc.UnaryInvoker, opts ...grpc.CallOption,
			) error {
				return pool.Invoke(ctx, method, req, reply, opts...)
			},
		),
		grpc.WithChainStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, _ *grpc.ClientConn, method string,
				_ grpc.Streamer, opts ...grpc.CallOption,
			) (grpc.ClientStream, error) {
				return pool.NewStream(ctx, desc, method, opts...)
			},
		),
	}
}

// check reads every row, and compares what the reader saw with what both sides counted.
func check(t *testing.T, reader array.RecordReader) {
	t.Helper()
	rows, sum := int64(0), int64(0)
	for reader.Next() {
		record := reader.RecordBatch()
		rows += record.NumRows()
		numbers := record.Column(0).(*array.Int64)
		for _, v := range numbers.Int64Values() {
			sum += v
		}
	}
	require.NoError(t, reader.Err())
	require.EqualValues(t, sqlite.Rows, rows)
	require.EqualValues(t, sqlite.Rows*(sqlite.Rows+1)/2, sum)
}

func TestADBCThroughInterceptorsAndPool(t *testing.T) {
	server, gate, address := sqlite.Serve(t)
	client, clientGate := newClient(t)
	pool := newPool(t, address, client)
	alloc := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer alloc.AssertSize(t, 0)
	db, err := driver.NewDriver(alloc).
		NewDatabaseWithOptions(map[string]string{adbc.OptionKeyURI: "grpc+tcp://" + address}, through(pool)...)
	require.NoError(t, err)
	conn, err := db.Open(t.Context())
	require.NoError(t, err)
	statement, err := conn.NewStatement()
	require.NoError(t, err)
	require.NoError(t, statement.SetSqlQuery(sqlite.Query))
	reader, _, err := statement.ExecuteQuery(t.Context())
	require.NoError(t, err)
	check(t, reader)
	reader.Release()
	require.NoError(t, statement.Close())
	require.NoError(t, conn.Close())
	require.NoError(t, db.Close())

	interceptorstest.Rows(t, server, interceptors.ClassGet, 0, sqlite.Rows)
	interceptorstest.Rows(t, client, interceptors.ClassGet, sqlite.Rows, 0)
	require.Equal(
		t,
		server.Stats().Class(interceptors.ClassGet).Sent,
		client.Stats().Class(interceptors.ClassGet).Received,
	)
	require.NotZero(
		t,
		server.Stats().Class(interceptors.ClassGetMetadata).Started,
		"opening a connection reads SqlInfo, which is no bulk load",
	)
	t.Logf("ADBC: %+v", client.Stats().Class(interceptors.ClassGet).Received)
	settled(t, server, client)
	interceptorstest.Empty(t, gate)
	interceptorstest.Empty(t, clientGate)
}

func TestFlightSQLClientOnThePool(t *testing.T) {
	server, gate, address := sqlite.Serve(t)
	client, _ := newClient(t)
	pool := newPool(t, address, client)
	sql := flightsql.Client{Client: flight.NewClientFromConn(pool.Shared(), nil), Alloc: memory.DefaultAllocator}
	info, err := sql.Execute(t.Context(), sqlite.Query)
	require.NoError(t, err)
	reader, err := sql.DoGet(t.Context(), info.Endpoint[0].Ticket)
	require.NoError(t, err)
	check(t, reader)
	reader.Release()

	prepared, err := sql.Prepare(t.Context(), "SELECT id FROM intTable WHERE id < ?")
	require.NoError(t, err)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, interceptorstest.Schema)
	builder.Field(0).(*array.Int64Builder).Append(3)
	prepared.SetParameters(builder.NewRecordBatch())
	info, err = prepared.Execute(t.Context())
	require.NoError(t, err)
	reader, err = sql.DoGet(t.Context(), info.Endpoint[0].Ticket)
	require.NoError(t, err)
	found := int64(0)
	for reader.Next() {
		found += reader.RecordBatch().NumRows()
	}
	require.NoError(t, reader.Err())
	reader.Release()
	require.EqualValues(t, 2, found)
	require.NoError(t, prepared.Close(t.Context()))

	s := server.Stats()
	require.EqualValues(t, sqlite.Rows+2, s.Class(interceptors.ClassGet).Sent.Rows)
	require.EqualValues(t, 1, s.Class(interceptors.ClassPutBind).Started, "a bound parameter is no bulk load")
	require.Zero(t, s.Class(interceptors.ClassPut).Started)
	settled(t, server, client)
	interceptorstest.Empty(t, gate)
}

const waitFor, tick = 2 * time.Minute, 50 * time.Millisecond

// settled waits until both sides know of every call's end. A client may have
// read the end before its server has returned; and Flight SQL's Prepare reads
// one result of its action and lets go of the stream, which nothing but the
// collector notices.
func settled(t *testing.T, governors ...interceptorstest.Governor) {
	t.Helper()
	for _, g := range governors {
		require.Eventually(t, func() bool {
			runtime.GC()
			return g.Stats().ActiveCalls == 0
		}, waitFor, tick)
		interceptorstest.Idle(t, g)
	}
}
