package backpressuretest

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/withobsrvr/sluice/backpressure"
)

// TestCoordinator checks a [Coordinator] of your own, with the thresholds at
// their defaults, 0.80 and 0.60. Each check gets a fresh one and runs in a
// bubble of testing/synctest, where time is free.
func TestCoordinator(t *testing.T, fresh func(t *testing.T) Coordinator) {
	load := func(t *testing.T, c Coordinator, id string, inFlight int64) {
		t.Helper()
		if err := c.Report(backpressure.Report{ServiceID: id, InFlight: inFlight, MaxInFlight: 1000}); err != nil {
			t.Fatalf("a good report was rejected: %v", err)
		}
	}
	checks := []struct {
		name  string
		check func(*testing.T, Coordinator)
	}{
		{"StartsOpen", func(t *testing.T, c Coordinator) {
			if f := c.Fraction(); f != 1 {
				t.Errorf("fraction is %v before any report, want 1", f)
			}
		}},
		{"BindTellsAtOnce", func(t *testing.T, c Coordinator) {
			var r Recorder
			defer c.Bind(&r)()
			r.ExpectExactly(t, 1)
		}},
		{"StaysOpenBelowActivation", func(t *testing.T, c Coordinator) {
			load(t, c, "sink", 799)
			if f := c.Fraction(); f != 1 {
				t.Errorf("fraction is %v at a load of 0.799, want 1", f)
			}
		}},
		{"TheCrossingReportIsToldBeforeItReturns", func(t *testing.T, c Coordinator) {
			var r Recorder
			defer c.Bind(&r)()
			load(t, c, "sink", 799)
			load(t, c, "sink", 950)
			if f := r.Last(); f >= 1 || f <= 0 {
				t.Errorf("the setter was set to %v at a load of 0.95, want between 0 and 1", f)
			}
			if c.Fraction() != r.Last() {
				t.Errorf("Fraction is %v, the setter was set to %v", c.Fraction(), r.Last())
			}
		}},
		{"OpensAgain", func(t *testing.T, c Coordinator) {
			for range 10 {
				load(t, c, "sink", 950)
				time.Sleep(time.Second)
			}
			for range 40 {
				load(t, c, "sink", 100)
				time.Sleep(time.Second)
			}
			if f := c.Fraction(); f != 1 {
				t.Errorf("fraction is %v after 40 s at a load of 0.1, want 1", f)
			}
		}},
		{"AlwaysLetsATrickleThrough", func(t *testing.T, c Coordinator) {
			for range 60 {
				load(t, c, "sink", 1000)
				time.Sleep(time.Second)
			}
			if f := c.Fraction(); !(f > 0) {
				t.Errorf("fraction is %v after a minute at the limit, want above 0: recovery is learned from what passes", f)
			}
		}},
		{"NeverLeavesItsRange", func(t *testing.T, c Coordinator) {
			var r Recorder
			defer c.Bind(&r)()
			for i := range int64(200) {
				load(t, c, "sink", i*i*37%1500)
				time.Sleep(90 * time.Millisecond)
			}
			for _, f := range r.Fractions() {
				if !(f > 0 && f <= 1) {
					t.Fatalf("set to %v, want above 0 and at most 1", f)
				}
			}
		}},
		{"BadReportsChangeNothing", func(t *testing.T, c Coordinator) {
			load(t, c, "sink", 700)
			for _, bad := range []backpressure.Report{
				{ServiceID: "", InFlight: 1000, MaxInFlight: 1000},
				{ServiceID: "si\nnk", InFlight: 1000, MaxInFlight: 1000},
				{ServiceID: "sink", InFlight: -1, MaxInFlight: 1000},
				{ServiceID: "sink", InFlight: 1000, MaxInFlight: -1000},
				{ServiceID: "sink", InFlight: 1000, MaxInFlight: 1000, Load: math.NaN()},
				{ServiceID: "sink", InFlight: 1000, MaxInFlight: 1000, Throughput: math.Inf(1)},
				{ServiceID: "sink", InFlight: 1000, MaxInFlight: 1000, Time: time.Now().Add(-24 * time.Hour)},
			} {
				if err := c.Report(bad); err == nil {
					t.Errorf("%+v was taken, want an error", bad)
				} else if !errors.Is(err, backpressure.ErrRejected) {
					t.Errorf("%v is no backpressure.ErrRejected", err)
				}
			}
			if f := c.Fraction(); f != 1 {
				t.Errorf("fraction is %v, want 1: bad reports count nothing", f)
			}
		}},
		{"ACancelledSetterHearsNothing", func(t *testing.T, c Coordinator) {
			var r Recorder
			cancel := c.Bind(&r)
			cancel()
			cancel()
			load(t, c, "sink", 1000)
			r.ExpectExactly(t, 1)
		}},
		{"ASetterMayCallBack", func(t *testing.T, c Coordinator) {
			defer c.Bind(setterFunc(func(float64) { _ = c.Fraction(); load(t, c, "other", 1) }))()
			load(t, c, "sink", 1000)
		}},
		{"EverySetterEndsAtTheSameFraction", func(t *testing.T, c Coordinator) {
			recorders := make([]Recorder, 8)
			for i := range recorders {
				defer c.Bind(&recorders[i])()
			}
			var running sync.WaitGroup
			for i := range 8 {
				running.Go(func() {
					for j := range int64(100) {
						_ = c.Report(backpressure.Report{ServiceID: fmt.Sprint("s", i), InFlight: j * 10, MaxInFlight: 1000})
					}
				})
			}
			running.Wait()
			for i := range recorders {
				if recorders[i].Last() != c.Fraction() {
					t.Errorf("setter %d was set to %v last, the fraction is %v", i, recorders[i].Last(), c.Fraction())
				}
			}
		}},
	}
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { check.check(t, fresh(t)) })
		})
	}
}

type setterFunc func(float64)

func (f setterFunc) SetFraction(fraction float64) { f(fraction) }
