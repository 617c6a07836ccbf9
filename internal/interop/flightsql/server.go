// Package flightsql runs arrow-go's SQLite Flight SQL server behind our
// interceptors, for clients that other people wrote.
package flightsql

import (
	"testing"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql/example"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// Rows is how many rows [Query] has.
const Rows = 100_000

// Query counts to Rows, with a text beside each number.
const Query = `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 100000)
SELECT n, 'row ' || n AS name FROM c`

// Serve runs the server on a loopback port until the test ends, and returns its
// interceptors, their gate and its address.
func Serve(t testing.TB) (governor *interceptors.Server, gate *flowcontrol.Throttler, address string) {
	t.Helper()
	db, err := example.CreateDB()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	sqlite, err := example.NewSQLiteFlightSQLServer(db)
	if err != nil {
		t.Fatal(err)
	}
	gate, err = flowcontrol.New(flowcontrol.Config{Name: "sqlite", Limit: flowcontrol.Cost{Messages: 16, Bytes: 64 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	governor, err = interceptors.NewServer(interceptors.ServerConfig{Throttler: gate})
	if err != nil {
		t.Fatal(err)
	}
	server := flight.NewServerWithMiddleware([]flight.ServerMiddleware{flight.ServerMiddleware(governor.Middleware())})
	server.RegisterFlightService(flightsql.NewFlightServer(sqlite))
	if err := server.Init("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	t.Cleanup(func() {
		if err := governor.Drain(t.Context()); err != nil { // the test's context has ended: this cancels what is left
			t.Errorf("clients left calls open: %v", err)
		}
		server.Shutdown()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return governor, gate, server.Addr().String()
}
