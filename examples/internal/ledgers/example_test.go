package ledgers_test

import (
	"context"
	"fmt"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
)

func ExampleSample() {
	src, err := ledgers.NewSample(3)
	if err != nil {
		fmt.Println(err)
		return
	}
	bounds, _ := src.Bounds(context.Background())
	for l, err := range src.Ledgers(context.Background(), bounds) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(l.Sequence, len(l.Raw), "bytes")
	}
	// Output:
	// 53312000 372480 bytes
	// 53312001 1278080 bytes
	// 53312002 372480 bytes
}
