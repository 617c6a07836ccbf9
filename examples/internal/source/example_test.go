package source_test

import (
	"fmt"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
)

func ExampleNew() {
	src, err := ledgers.NewSample(200)
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := source.New(src, source.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	// flight.RegisterFlightServiceServer(grpcServer, srv)
	fmt.Println(srv.Counters().Source)
	// Output: sample
}
