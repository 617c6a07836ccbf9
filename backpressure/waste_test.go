package backpressure_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// stage serves with a number of slots, 20 ms each, behind a throttler. A
// unit is in flight until its answer goes back, as in a handler that calls the
// next stage.
type stage struct {
	gate  *flowcontrol.Throttler
	slots chan struct{}
}

func newStage(t *testing.T, slots, limit int) *stage {
	g, err := flowcontrol.New(flowcontrol.Config{
		Limit: flowcontrol.Cost{Messages: int64(limit)},
		Seed:  1,
	})
	require.NoError(t, err)
	return &stage{gate: g, slots: make(chan struct{}, slots)}
}

// waste runs a pipeline whose last stage is the bottleneck (400/s, the others
// 800/s) at an overload, and returns goodput (answers within 200 ms, as a share
// of what was possible), the p99 of the good ones, and how much work the first
// stage did for each.
func waste(
	t *testing.T, cfg backpressure.Config, stages int, overload float64,
) (goodput float64, p99 time.Duration, work float64) {
	const deadline = 200 * time.Millisecond
	one := flowcontrol.Cost{Messages: 1}
	var chain []*stage
	for i := range stages {
		slots, limit := 16, 32
		if i == stages-1 {
			slots, limit = 8, 16
		}
		if i == 0 {
			limit = 32 // what 400/s keep in flight through the pipeline for 80 ms
		}
		chain = append(chain, newStage(t, slots, limit))
	}
	cfg.Tick = 97 * time.Millisecond
	c := newController(t, cfg)
	defer c.Bind(chain[0].gate)()
	ctx, stop := context.WithCancel(t.Context())
	for i, s := range chain {
		report := backpressure.Report{
			ServiceID:   fmt.Sprint("stage", i),
			MaxInFlight: s.gate.Limit().Messages,
			Upstreams:   []string{},
		}
		if i > 0 {
			report.Upstreams = []string{fmt.Sprint("stage", i-1)}
		}
		go func() { // as an agent: a step of load, at most every 100 ms
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					report.InFlight = s.gate.InFlight().Messages
					_ = c.Report(report)
				}
			}
		}()
	}
	r := rand.New(rand.NewPCG(3, 4))
	begin := time.Now()
	warm, end := begin.Add(5*time.Second), begin.Add(15*time.Second)
	type answer struct {
		took time.Duration
		good bool
		work int
	}
	answers := make(chan answer, 1<<16)
	offered := 0
	for at := begin; at.Before(end); at = at.Add(time.Duration(r.ExpFloat64() / (400 * overload) * 1e9)) {
		time.Sleep(time.Until(at))
		measured := at.After(warm)
		if measured {
			offered++
		}
		go func() {
			a := answer{}
			ctx, cancel := context.WithTimeout(ctx, deadline)
			defer cancel()
			permit, err := chain[0].gate.Acquire(ctx, one) // as an interceptor
			if err != nil {
				return
			}
			defer func() {
				if a.took = time.Since(at); measured {
					answers <- a
				}
			}()
			outcome := flowcontrol.Dropped
			defer func() { permit.Release(outcome) }()
			for i, s := range chain {
				if i > 0 { // the stage before calls this one, and waits for its answer
					next, err := s.gate.Acquire(ctx, one)
					if err != nil {
						return
					}
					defer next.Release(flowcontrol.Success)
				}
				select {
				case s.slots <- struct{}{}:
				case <-ctx.Done():
					return
				}
				time.Sleep(20 * time.Millisecond)
				<-s.slots
				if i == 0 {
					a.work = 1
				}
			}
			if a.good = time.Since(at) <= deadline; a.good {
				outcome = flowcontrol.Success
			}
		}()
	}
	time.Sleep(2 * deadline)
	stop()
	close(answers)
	var took []time.Duration
	units := 0
	for a := range answers {
		units += a.work
		if a.good {
			took = append(took, a.took)
		}
	}
	slices.Sort(took)
	possible := min(float64(offered), 400*end.Sub(warm).Seconds())
	return float64(len(took)) / possible, took[len(took)*99/100], float64(units) / float64(len(took))
}

// TestNothingIsWastedUpstream: the decision reaches the entry, so that the
// first stage does no work that the last one cannot take.
func TestNothingIsWastedUpstream(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation: run without -short")
	}
	higher := backpressure.Config{Activation: 0.9, Recovery: 0.72} // the worst of three loads lies further above the mean
	for stages, cfg := range map[int]backpressure.Config{2: {}, 3: higher} {
		for _, overload := range []float64{2, 4} {
			t.Run(fmt.Sprintf("%d stages at %vx", stages, overload), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					goodput, p99, work := waste(t, cfg, stages, overload)
					t.Logf(
						"goodput %.3f, p99 %v, work of the first stage for each good answer %.3f", goodput, p99.Round(time.Millisecond),
						work,
					)
					require.GreaterOrEqual(t, goodput, 0.96)
					require.LessOrEqual(t, p99, 90*time.Millisecond)
					require.LessOrEqual(t, work, 1.1)
				})
			})
		}
	}
}
