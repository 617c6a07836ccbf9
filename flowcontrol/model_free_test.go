package flowcontrol

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A freeRun does to a gate what no model follows, a limit that is learned and
// tokens that are prepaid, and looks at what must hold whatever it decides.
type freeRun struct {
	gate *Throttler
	cfg  Config
	open []*call // without an answer
	held []Permit

	given, rejected uint64 // permits and errors
	before          Stats
	log             *strings.Builder
}

// knob changes one setting, and those of the learned limit and high rates more often.
func (r *freeRun) knob(o operation) {
	switch v := o[7]; o[6] % 6 {
	case 0:
		r.cfg.Adaptive = AdaptiveConfig{Mode: pick(v, AdaptiveGuard, AdaptiveOn, AdaptiveOn, AdaptiveOff)}
	case 1:
		r.cfg.Adaptive.Window = pick(v, 0, time.Millisecond, 20*time.Millisecond)
		r.cfg.Adaptive.MaxHealthy = pick(v, 0, 0, time.Millisecond, time.Second)
	case 2:
		r.cfg.Adaptive.Max = pick[int64](v, 0, 5, 20, 1<<40)
		r.cfg.Adaptive.Min = pick[int64](o[5], 0, 0, 1, 5)
		r.cfg.Adaptive.Start = pick[int64](o[4], 0, 0, 5)
	case 3:
		r.cfg.Rate = Rates{
			pick[Rate](v, 0, 1e5, 1e6, 1e15, 1e-6), pick[Rate](o[5], 0, 1e5, 1e9), pick[Rate](o[4], 0, 1e9, 3e5),
		}
		r.cfg.Burst = Cost{pick[int64](o[3], 0, 1, 1e6, math.MaxInt64), pick[int64](o[2], 0, 7, 1e6), 0}
	default:
		o.knob(&r.cfg)
	}
}

func (r *freeRun) wait(o operation, v verb) {
	ctx, cancel := context.WithCancel(WithKey(WithPriority(context.Background(), o.priority()), o.key()))
	if o[1]%4 == 0 {
		ctx = WithoutEarlyRejection(ctx)
	}
	if o[6]%8 >= 5 {
		unit := pick(o[6], time.Millisecond, 100*time.Millisecond)
		ctx, cancel = context.WithTimeout(ctx, unit*time.Duration(1+int(o[7])))
	}
	c := &call{cancel: cancel}
	r.open = append(r.open, c)
	go func() {
		if v == pace {
			c.err = r.gate.Pace(ctx, o.cost())
		} else {
			c.given, c.err = r.gate.Acquire(ctx, o.cost())
		}
		c.answered = true
	}()
}

func (r *freeRun) logf(format string, args ...any) {
	if r.log != nil {
		fmt.Fprintf(r.log, format+"\n", args...)
	}
}

func (r *freeRun) step(o operation) {
	switch kind := o[0] % 64; {
	case kind < 14:
		c := &call{answered: true}
		c.given, c.err = r.gate.TryAcquire(WithKey(WithPriority(context.Background(), o.priority()), o.key()), o.cost())
		r.logf("try %v by %s: %v", o.cost(), o.key(), c.err)
		r.open = append(r.open, c)
	case kind < 28:
		r.wait(o, acquire)
		r.logf("acquire %v by %s, %v", o.cost(), o.key(), o.priority())
	case kind < 30:
		r.wait(o, pace)
		r.logf("pace %v by %s, %v", o.cost(), o.key(), o.priority())
	case kind < 46:
		if len(r.held) > 0 {
			i := (int(o[1])<<8 + int(o[2])) % len(r.held)
			outcome := pick(o[3], Success, Success, Success, Success, Ignored, Dropped)
			r.held[i].Release(outcome)
			r.held[i].Release(Dropped)
			r.held = slices.Delete(r.held, i, i+1)
			r.logf("release %v", outcome)
		}
	case kind < 55:
		d := time.Duration(1+o[2]%16) * pick(o[1], time.Nanosecond, time.Microsecond, 100*time.Microsecond,
			time.Millisecond, time.Millisecond, 10*time.Millisecond, 100*time.Millisecond, time.Second)
		time.Sleep(d)
		r.logf("sleep %v", d)
	case kind < 57:
		if len(r.open) > 0 {
			r.open[int(o[1])%len(r.open)].cancel()
			r.logf("cancel")
		}
	case kind < 58:
		r.gate.Charge(WithKey(context.Background(), o.key()), o.cost())
		r.logf("charge %v by %s", o.cost(), o.key())
	case kind < 60:
		f := pick(o[1], 1, 1, 1, 0.5, 0.1, 0.999, 1.0/3, 0, 1e-9, 1e-12, math.NaN())
		r.gate.SetFraction(f)
		r.logf("fraction %v", f)
	case kind < 61:
		r.gate.SetPressure(o[1]%2 == 0)
		r.logf("pressure %v", o[1]%2 == 0)
	default:
		r.knob(o)
		err := r.gate.Reconfigure(r.cfg) // some of it is not valid, and then nothing changes
		r.logf("reconfigure %+v: %v", r.cfg, err)
	}
}

// collect takes the answers.
func (r *freeRun) collect() {
	synctest.Wait()
	r.open = slices.DeleteFunc(r.open, func(c *call) bool {
		if !c.answered {
			return false
		}
		if c.cancel != nil {
			c.cancel()
		}
		switch {
		case c.err != nil:
			r.rejected++
		case c.given != (Permit{}):
			r.given++
			r.held = append(r.held, c.given)
		}
		return true
	})
}

// look says what does not hold.
func (r *freeRun) look() error {
	st := r.gate.Stats()
	var errs []error
	must := func(holds bool, what string) {
		if !holds {
			errs = append(errs, errors.New(what))
		}
	}
	must(st.Admitted == r.given && st.Permits == int64(len(r.held)), "permits that were given do not add up")
	must(st.Completed == r.given-uint64(len(r.held)), "releases do not add up")
	must(st.Completed == st.Succeeded+st.Ignored+st.Dropped, "outcomes do not add up")
	must(st.Rejected.Total() == r.rejected, "rejections do not add up")
	must(st.Waiting+st.Pacing == int64(len(r.open)), "those that wait do not add up")
	must(st.WaitTotal >= r.before.WaitTotal && st.Waits >= r.before.Waits, "waits ran backwards")
	must(st.Load >= 0 && !math.IsInf(st.Load, 0) && st.Fraction >= 0 && st.Fraction <= 1, "a figure is none")
	enforced := st.Mode == Enforce || st.Mode == EnforceUnderPressure
	for w := range Weight(weights) {
		n, limit := st.InFlight.Of(w), max(st.Limit.Of(w), r.before.Limit.Of(w))
		must(n >= 0 && n <= st.Peak.Of(w), "in flight is no number, or above its peak")
		must(st.Limit.Of(w) != 0, "a limit of nothing")
		if enforced && st.Limit.Of(w) > 0 && r.before.Limit.Of(w) > 0 {
			must(n <= max(limit, r.before.InFlight.Of(w)), "in flight grew above the limit")
		}
	}
	r.before = st

	t := r.gate
	t.lock()
	defer t.mu.Unlock()
	// Who has been overtaken often enough, and who is served first, the next walk
	// may see otherwise; and floating point may be late by a nanosecond or two.
	but := t.line.barred(levels, t.cfg.Queue.Passes) || t.line.armed <= t.nowLocked()+2
	standing := t.line.standing
	t.walkLocked()
	but = but || t.line.standing != standing
	must(but || t.line.length == len(r.open), "somebody stood that could go")
	if first := t.line.next(); first != nil {
		v := t.decideLocked(&first.request, t.line.length)
		but = but || t.line.barred(levels, t.cfg.Queue.Passes)
		must(but || v.after == 0 || t.line.armed <= t.nowLocked()+v.after, "nobody wakes the first that waits")
	} else {
		must(t.line.armed == forever && t.line.length == 0, "a timer for nobody")
	}
	for w := range t.buckets {
		b := &t.buckets[w]
		level := b.level(bucketTime(t.nowLocked()))
		most := float64(b.burst)*(1+1e-9) + 1/b.price // its window is rounded
		must(b.rate == 0 || level <= most && level >= -2*most, "more tokens or more debt than a bucket has")
	}
	must(t.duty.working >= 0 && !math.IsNaN(t.duty.debt), "the duty is no number")
	must(t.learner.size >= 1 && t.learner.size <= t.learner.most, "the learned limit is none")
	return errors.Join(errs...)
}

// finish lets everybody end who can.
func (r *freeRun) finish() error {
	r.gate.SetFraction(1)
	cfg := r.gate.Config()
	cfg.Rate, cfg.KeyRate, cfg.KeyRateOf = Rates{}, Rates{}, nil
	if err := r.gate.Reconfigure(cfg); err != nil {
		return err
	}
	for range 1000 {
		if r.collect(); len(r.open)+len(r.held) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
		for _, p := range r.held {
			p.Release(Success)
		}
		r.held = nil
	}
	left := len(r.open)
	for _, c := range r.open {
		c.cancel()
	}
	r.collect()
	if st := r.gate.Stats(); left > 0 || st.InFlight != (Cost{}) || st.Permits != 0 || st.Waiting+st.Pacing != 0 {
		return fmt.Errorf("something is left at the end: %d wait, %+v", left, st)
	}
	return nil
}

// free is a play that says what does not hold.
func free(t *testing.T, ops []operation, log *strings.Builder) (steps int, err error) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Seed: 1, Limit: Cost{Messages: 3}}
		r := &freeRun{gate: newTest(t, cfg), cfg: cfg, log: log}
		r.before = r.gate.Stats()
		for _, o := range ops {
			steps++
			r.step(o)
			r.collect()
			if err = r.look(); err != nil {
				break
			}
		}
		if left := r.finish(); err == nil {
			err = left
		}
	})
	return steps, err
}

func TestTheBooksAddUpWhateverIsLearned(t *testing.T) {
	const shards, length = 4, 1000
	runs := 50
	if testing.Short() || raceDetector {
		runs = 5
	}
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			for i := range runs {
				seed := uint64(shard*runs + i)
				play(free).check(t, fmt.Sprintf("seed %d", seed), randomOperations(seed, length))
			}
		})
	}
}
