package sluice_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// serve runs a Flight server behind a gate: at most 64 record batches or 64 MiB
// are in flight at once, and at most 256 streams open.
func serve(address string, service flight.FlightServer) (flight.Server, error) {
	gate, err := flowcontrol.New(flowcontrol.Config{
		Name:  "numbers",
		Limit: flowcontrol.Cost{Messages: 64, Bytes: 64 << 20},
	})
	if err != nil {
		return nil, err
	}
	guard, err := interceptors.NewServer(interceptors.ServerConfig{Throttler: gate, MaxActiveStreams: 256})
	if err != nil {
		return nil, err
	}
	server := flight.NewServerWithMiddleware([]flight.ServerMiddleware{
		flight.ServerMiddleware(guard.Middleware()),
	})
	server.RegisterFlightService(service)
	return server, server.Init(address)
}

// Example wraps a Flight server in a gate.
func Example() {
	server, err := serve("localhost:0", &numbers{})
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve()
	defer server.Shutdown()

	client, err := flight.NewClientWithMiddleware(
		server.Addr().String(),
		nil,
		nil,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	stream, err := client.DoGet(context.Background(), &flight.Ticket{Ticket: []byte("1 to 3")})
	if err != nil {
		log.Fatal(err)
	}
	reader, err := flight.NewRecordReader(stream)
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Release()
	for {
		batch, err := reader.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(batch.Column(0))
	}
	// Output: [1 2 3]
}

// numbers serves one record batch.
type numbers struct{ flight.BaseFlightServer }

func (*numbers) DoGet(_ *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}}, nil)
	builder := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer builder.Release()
	builder.Field(0).(*array.Int64Builder).AppendValues([]int64{1, 2, 3}, nil)
	batch := builder.NewRecordBatch()
	defer batch.Release()
	writer := flight.NewRecordWriter(stream, ipc.WithSchema(schema))
	defer writer.Close()
	return writer.Write(batch)
}
