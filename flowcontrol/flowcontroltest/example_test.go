package flowcontroltest_test

import (
	"context"
	"fmt"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
)

// ingest is code under test: it skips what the gate rejects.
func ingest(ctx context.Context, gate flowcontroltest.Limiter, batches int) (taken int) {
	for range batches {
		permit, err := gate.TryAcquire(ctx, flowcontrol.Cost{Messages: 1})
		if err != nil {
			continue
		}
		taken++
		permit.Release(flowcontrol.Success)
	}
	return taken
}

func Example() {
	ctx := context.Background()
	fmt.Println(ingest(ctx, flowcontroltest.AlwaysAdmits{}, 3))
	fmt.Println(ingest(ctx, flowcontroltest.AlwaysRejects{}, 3))
	fmt.Println(ingest(ctx, flowcontroltest.Script(flowcontroltest.Step{Err: flowcontrol.ErrRejected}), 3))
	// Output:
	// 3
	// 0
	// 2
}
