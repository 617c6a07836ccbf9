package extract_test

import (
	"context"
	"fmt"

	"github.com/withobsrvr/sluice/examples/internal/events/extract"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func ExampleDirect() {
	src, err := ledgers.NewSample(2)
	if err != nil {
		fmt.Println(err)
		return
	}
	bounds, _ := src.Bounds(context.Background())
	for out, err := range extract.Direct(context.Background(), src, bounds) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(out.Sequence, out.Transactions, "transactions", len(out.Events), "events")
	}
	// Output:
	// 53312000 163 transactions 296 events
	// 53312001 249 transactions 666 events
}
