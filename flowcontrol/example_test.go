package flowcontrol_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// A stage that reads a batch waits for room first, and gives it back when the
// batch is handed on.
func Example() {
	throttler, err := flowcontrol.New(flowcontrol.Config{
		Name:  "sink",
		Limit: flowcontrol.Cost{Messages: 64, Bytes: 64 << 20},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	work := func(ctx context.Context, rows, size int64) error {
		permit, err := throttler.Acquire(ctx, flowcontrol.Cost{Messages: 1, Rows: rows, Bytes: size})
		if err != nil {
			return err
		}
		outcome := flowcontrol.Dropped // also when the work panics
		defer func() { permit.Release(outcome) }()
		fmt.Println("in flight:", throttler.InFlight())
		outcome = flowcontrol.Success
		return nil
	}
	if err := work(context.Background(), 4096, 1<<20); err != nil {
		fmt.Println(err)
	}
	fmt.Println("in flight:", throttler.InFlight())
	// Output:
	// in flight: 1 messages, 4096 rows, 1048576 bytes
	// in flight: 0 messages, 0 rows, 0 bytes
}

// A request is better rejected than late; the rejection says why and when to
// come back.
func ExampleThrottler_TryAcquire() {
	throttler, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	permit, _ := throttler.TryAcquire(ctx, flowcontrol.Cost{Messages: 1})
	_, err = throttler.TryAcquire(ctx, flowcontrol.Cost{Messages: 1})
	fmt.Println(err)
	fmt.Println(errors.Is(err, flowcontrol.ErrRejected))
	if rejected, ok := errors.AsType[*flowcontrol.Error](err); ok {
		fmt.Println(rejected.Reason, rejected.InFlight.Messages, "of", rejected.Limit.Messages)
	}
	permit.Release(flowcontrol.Success)
	// Output:
	// flowcontrol: rejected: in_flight (1 of 1 messages in flight, 1 asked)
	// true
	// in_flight 1 of 1
}

// The limit that protects a service whose capacity is not known.
func ExampleAdaptiveConfig() {
	throttler, err := flowcontrol.New(flowcontrol.Config{
		Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOn, Min: 4, Max: 500},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("starts at", throttler.Limit().Messages)
	// Output: starts at 20
}

// Tokens bound the rate, and a rate can be watched before it is enforced.
func ExampleThrottler_Reconfigure() {
	config := flowcontrol.Config{
		Mode:  flowcontrol.Observe,
		Rate:  flowcontrol.Rates{Rows: 1000},
		Burst: flowcontrol.Cost{Rows: 100},
	}
	throttler, err := flowcontrol.New(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	for range 3 {
		permit, err := throttler.TryAcquire(ctx, flowcontrol.Cost{Messages: 1, Rows: 80})
		permit.Release(flowcontrol.Success)
		fmt.Println("admitted:", err == nil)
	}
	fmt.Println("would reject:", throttler.Stats().WouldReject.Of(flowcontrol.ReasonRate))

	config.Mode = flowcontrol.Enforce
	if err := throttler.Reconfigure(config); err != nil {
		fmt.Println(err)
		return
	}
	_, err = throttler.TryAcquire(ctx, flowcontrol.Cost{Messages: 1, Rows: 80})
	rejected, _ := errors.AsType[*flowcontrol.Error](err)
	fmt.Println(rejected.Reason, rejected.RetryAfter.Round(100*time.Millisecond))
	// Output:
	// admitted: true
	// admitted: true
	// admitted: true
	// would reject: 2
	// rate 200ms
}

// The rest of the pipeline sets the fraction; a try sheds the remainder.
func ExampleThrottler_SetFraction() {
	throttler, err := flowcontrol.New(flowcontrol.Config{Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	throttler.SetFraction(0.29)
	admitted := 0
	for range 10_000 {
		permit, err := throttler.TryAcquire(context.Background(), flowcontrol.Cost{Messages: 1})
		if err == nil {
			admitted++
		}
		permit.Release(flowcontrol.Success)
	}
	fmt.Println(admitted)
	// Output: 2900
}

// Bad configuration is one error that names every problem.
func ExampleNew_bad() {
	_, err := flowcontrol.New(flowcontrol.Config{
		PressureLoad: 3,
		Queue:        flowcontrol.QueueConfig{Target: time.Second},
	})
	fmt.Println(err)
	// Output:
	// flowcontrol: Config.PressureLoad is 3, want above 0, at most 1, or negative for off
	// flowcontrol: Config.Queue.Target is 1s, want at most Queue.Interval (100ms)
}

// Each tenant has a rate of its own, and some have a higher one.
func ExampleConfig_tenants() {
	throttler, err := flowcontrol.New(flowcontrol.Config{
		MaxKeys: 100,
		KeyRate: flowcontrol.Rates{Rows: 10_000}, // a burst of a tenth of a second
		KeyRateOf: func(key string) (flowcontrol.Rates, flowcontrol.Cost) {
			if key == "gold" {
				return flowcontrol.Rates{Rows: 100_000}, flowcontrol.Cost{}
			}
			return flowcontrol.Rates{Rows: 10_000}, flowcontrol.Cost{}
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, key := range []string{"gold", "plain"} {
		ctx := flowcontrol.WithKey(context.Background(), key)
		for range 2 {
			permit, err := throttler.TryAcquire(ctx, flowcontrol.Cost{Messages: 1, Rows: 1000})
			if rejected, ok := errors.AsType[*flowcontrol.Error](err); ok {
				fmt.Println(key, "is rejected:", rejected.Reason)
				continue
			}
			fmt.Println(key, "is admitted")
			permit.Release(flowcontrol.Success)
		}
	}
	// Output:
	// gold is admitted
	// gold is admitted
	// plain is admitted
	// plain is rejected: tenant_rate
}
