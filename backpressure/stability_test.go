package backpressure_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// plant is one service with an in-flight limit of 1,000 and a fixed capacity,
// offered Poisson arrivals, and reporting every second. One goroutine sleeps
// from event to event, so that the bubble's clock is the only one.
type plant struct {
	drain    float64 // limit / capacity, in seconds
	overload float64 // offered / capacity
	lasting  time.Duration
	after    float64 // offered / capacity after it
	policy   backpressure.Policy
	each     func(at time.Duration, load, fraction float64) // report
	seed     uint64
}

type outcome struct {
	mean, deviation, lowest, highest float64 // smoothed load, after the first 10 s
	hard                             float64 // hard rejects / offered, likewise
	opened                           time.Duration
	activations                      uint64
}

func (p plant) run(t *testing.T) (o outcome) {
	const limit = 1000
	const service = 100 * time.Millisecond
	capacity := limit / p.drain
	slots := int(capacity * service.Seconds())
	// A tick that never falls on a report's instant: which goes first would be chance.
	c := newController(t, backpressure.Config{Policy: p.policy, Tick: 233 * time.Millisecond})
	g, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: limit}, Seed: 1})
	require.NoError(t, err)
	defer c.Bind(g)()
	one := flowcontrol.Cost{Messages: 1}
	type unit struct {
		permit flowcontrol.Permit
		end    time.Time
	}
	r := rand.New(rand.NewPCG(7, p.seed))

	var serving []unit
	var waiting []flowcontrol.Permit
	hard, offered := 0, 0
	var smoothed, sum, squares, n float64
	o.lowest, o.opened = math.Inf(1), -1
	begin := time.Now()
	over, end := begin.Add(p.lasting), begin.Add(p.lasting+20*time.Second)
	arrival, report := begin, begin
	for now := begin; now.Before(end); {
		now = arrival
		if report.Before(now) {
			now = report
		}
		if len(serving) > 0 && serving[0].end.Before(now) {
			now = serving[0].end
		}
		if d := time.Until(now); d > 0 {
			time.Sleep(d)
		}
		measured := now.Sub(begin) > 10*time.Second && now.Before(over)
		switch {
		case len(serving) > 0 && !serving[0].end.After(now):
			serving[0].permit.Release(flowcontrol.Success)
			serving = serving[1:]
			if len(waiting) > 0 {
				serving = append(serving, unit{waiting[0], now.Add(service)})
				waiting = waiting[1:]
			}
		case !report.After(now):
			report = report.Add(time.Second)
			_ = c.Report(backpressure.Report{ServiceID: "s", InFlight: g.InFlight().Messages, MaxInFlight: g.Limit().Messages})
			smoothed += (1 - math.Exp(-1/0.5)) * (g.Load() - smoothed)
			if p.each != nil {
				p.each(now.Sub(begin), g.Load(), c.Fraction())
			}
			if measured {
				sum, squares, n = sum+smoothed, squares+smoothed*smoothed, n+1
				o.lowest, o.highest = min(o.lowest, smoothed), max(o.highest, smoothed)
			}
			if now.After(over) && o.opened < 0 && c.Fraction() == 1 {
				o.opened = now.Sub(over)
			}
		default:
			rate := p.overload * capacity
			if now.After(over) {
				rate = p.after * capacity
			}
			arrival = now.Add(time.Duration(r.ExpFloat64() / rate * 1e9))
			if measured {
				offered++
			}
			permit, err := g.TryAcquire(t.Context(), one)
			if refusal, ok := errors.AsType[*flowcontrol.Error](err); ok {
				if measured && refusal.Reason == flowcontrol.ReasonInFlight {
					hard++
				}
			} else if len(serving) < slots {
				serving = append(serving, unit{permit, now.Add(service)})
			} else {
				waiting = append(waiting, permit)
			}
		}
	}
	o.mean = sum / n
	o.deviation = math.Sqrt(max(0, squares/n-o.mean*o.mean))
	o.hard = float64(hard) / float64(offered)
	o.activations = c.Snapshot().Activations
	return o
}

// TestGradualHoldsTheLoad: 1.5 and 3 times the capacity without a hard reject,
// ten times with under 1 %; open again within 10 s, and one activation each.
func TestGradualHoldsTheLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation: run without -short")
	}
	for _, drain := range []float64{1, 2} {
		for overload, within := range map[float64]float64{1.5: 0.05, 3: 0.05, 10: 0.10} {
			t.Run(fmt.Sprintf("drains in %v s, %v times", drain, overload), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					o := plant{drain: drain, overload: overload, lasting: 60 * time.Second, after: 0.5}.run(t)
					t.Logf(
						"load %.3f +- %.3f (%.2f to %.2f), hard rejects %.2f %%, open after %v", o.mean, o.deviation, o.lowest,
						o.highest, 100*o.hard, o.opened,
					)
					require.InDelta(t, 0.80, o.mean, within)
					require.LessOrEqual(t, o.deviation, within)
					if overload < 10 {
						require.Zero(t, o.hard)
					}
					require.Less(t, o.hard, 0.01)
					require.Positive(t, o.opened)
					require.LessOrEqual(t, o.opened, 10*time.Second)
					require.EqualValues(t, 1, o.activations)
				})
			})
		}
	}
}

// TestPolicyCurves draws what docs/backpressure.md shows: 30 s at three times
// the capacity, then half of it, under both policies. # is the load, | the
// fraction.
func TestPolicyCurves(t *testing.T) {
	if testing.Short() {
		t.Skip("a simulation: run without -short")
	}
	for _, policy := range []backpressure.Policy{backpressure.Step{}, backpressure.Gradual{}} {
		var picture strings.Builder
		var hard float64
		synctest.Test(t, func(t *testing.T) {
			o := plant{
				drain:    1,
				overload: 3,
				lasting:  30 * time.Second,
				after:    0.5,
				policy:   policy,
				each: func(at time.Duration, load, fraction float64) {
					if at%(2*time.Second) != 0 {
						return
					}
					line := []byte(strings.Repeat("#", int(load*40+0.5)) + strings.Repeat(" ", 41))[:41]
					line[int(fraction*40)] = '|'
					fmt.Fprintf(&picture, "%4.0f s %s load %.2f fraction %.2f\n", at.Seconds(), line, load, fraction)
				},
			}.run(
				t,
			)
			hard = o.hard
		})
		t.Logf(
			"%v: %.1f %% of what was offered after the first 10 s met the hard limit\n%s", policy, 100*hard, picture.String(),
		)
	}
}
