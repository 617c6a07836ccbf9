package flowcontrol

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An operation is one step of a run, as bytes: what to do, and eight choices. A
// run is random bytes, those of a fuzzer, or some of either.
type operation [8]byte

func operations(data []byte) []operation {
	ops := make([]operation, 0, len(data)/len(operation{}))
	for len(data) >= len(operation{}) {
		ops = append(ops, operation(data))
		data = data[len(operation{}):]
	}
	return ops
}

func randomOperations(seed uint64, n int) []operation {
	random := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	data := make([]byte, n*len(operation{}))
	_, _ = random.Read(data)
	return operations(data)
}

func pick[T any](choice byte, from ...T) T { return from[int(choice)%len(from)] }

// cost is a cost of mostly one message.
func (o operation) cost() Cost {
	return Cost{
		pick[int64](o[2], 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 5, 0, -4, 1<<40),
		pick[int64](o[3], 0, 0, 0, 0, 0, 0, 1, 2, 3, 5, 8, 10, 12, 25, 40, 1<<30),
		pick[int64](o[4], 0, 0, 0, 0, 0, 0, 0, 1, 10, 30, 60, 99, 100, 101, 250, math.MaxInt64),
	}
}

func (o operation) key() string { return string('a' + o[5]%6) }

func (o operation) priority() Priority {
	return pick(o[5]/8, Normal, Normal, Normal, Normal, Background, High, Critical, Critical)
}

func (o operation) level() int { return int(Critical - o.priority()) } // 0 is served first

// knob changes one setting.
func (o operation) knob(cfg *Config) {
	v := o[2]
	rates := []Rate{0, 0, 0, 1, 10, 100, 1000, 10_000}
	bursts := []int64{0, 0, 1, 2, 10, 30, 100, 1000}
	switch o[1] % 27 {
	case 0, 1, 2:
		cfg.Limit.Messages = pick[int64](v, 1, 2, 3, 4, 5, 8, 12, 20, 0, -1)
	case 3:
		cfg.Limit.Rows = pick[int64](v, 0, 5, 10, 20, -1)
	case 4:
		cfg.Limit.Bytes = pick[int64](v, 0, 1, 100, 300, -1)
	case 5, 6:
		cfg.Rate.Messages = pick(v, rates...)
	case 7:
		cfg.Rate.Rows = pick(v, rates...)
	case 8:
		cfg.Rate.Bytes = pick(v, rates...)
	case 9:
		cfg.Burst = Cost{pick(v, bursts...), pick(o[3], bursts...), pick(o[4], bursts...)}
	case 10:
		cfg.RejectOversized = v%4 == 0
	case 11:
		cfg.MaxWait = pick(v, 0, 0, -1, time.Millisecond, 20*time.Millisecond, 200*time.Millisecond)
	case 12:
		cfg.Queue.InOrder = v%2 == 0
	case 13, 14:
		cfg.Queue.Length = pick(v, 0, 0, 1, 2, 4, 8, 16, -1)
	case 15:
		cfg.Queue.Target, cfg.Queue.Interval = 0, 0
		if v%2 == 0 {
			cfg.Queue.Target, cfg.Queue.Interval = time.Millisecond, pick(o[3], time.Millisecond, 7*time.Millisecond)
		}
	case 16:
		cfg.Queue.Passes = pick(v, 0, -1, 1, 2, 3, 8)
	case 17, 18:
		cfg.MaxKeys = pick(v, 0, 1, 2, 3, 4, 8)
	case 19, 20:
		cfg.KeyRate = Rates{pick(v, rates...), pick(o[3], rates...), 0}
		cfg.KeyBurst = Cost{pick(o[4], bursts...), pick(o[6], bursts...), 0}
	case 21:
		if cfg.KeyRateOf = nil; v%2 == 0 {
			cfg.KeyRateOf = func(key string) (Rates, Cost) {
				return Rates{Messages: pick(key[0], rates...)}, Cost{Messages: pick(key[0]+v, bursts...)}
			}
		}
	case 22, 23:
		cfg.Mode = pick(v, Enforce, Enforce, Enforce, EnforceUnderPressure, EnforceUnderPressure, Observe, Off)
	case 24:
		cfg.PressureLoad = pick(v, 0, 0.5, 1, -1)
	case 25:
		cfg.WatchdogAge = pick(v, 0, -1, 50*time.Millisecond)
	case 26:
		*cfg = Config{Name: cfg.Name + "'", Adaptive: cfg.Adaptive}
	}
	if cfg.MaxKeys <= 0 { // or it would not be valid
		cfg.KeyRate, cfg.KeyRateOf = Rates{}, nil
	}
}

// A call is one call of a verb to both.
type call struct {
	modelCall
	cancel context.CancelFunc

	// What the gate said. It is written by the call's own goroutine.
	answered bool
	answers  int64
	given    Permit
	err      error
}

// A run does the same to a gate and to its model, and compares them after each step.
type run struct {
	gate  *Throttler
	model *model
	begun time.Time
	cfg   Config
	open  []*call // not known to be answered
	ended []*call // that may hold a permit, or have released it
	ties  int64
	log   *strings.Builder // nil: nobody reads it
}

// errTie says that two things happen at one moment, so that both orders are right.
var errTie = errors.New("a tie")

func (r *run) logf(format string, args ...any) {
	if r.log != nil {
		fmt.Fprintf(r.log, "%12v  %s\n", time.Duration(r.model.now), fmt.Sprintf(format, args...))
	}
}

func (r *run) now() int64 { return int64(time.Since(r.begun)) + 1 } // as the gate counts

// acquire calls Acquire or Pace, in a goroutine of its own.
func (r *run) acquire(o operation, v verb) {
	c := &call{modelCall: modelCall{
		verb: v, cost: o.cost().clean(), key: o.key(), level: o.level(), until: forever,
	}}
	ctx := WithKey(WithPriority(context.Background(), o.priority()), c.key)
	if o[1]%4 == 0 {
		ctx, c.patient = WithoutEarlyRejection(ctx), true
	}
	over := o[6]%61 == 3
	if o[6]%8 < 5 {
		ctx, c.cancel = context.WithCancel(ctx)
	} else {
		// Everything else happens at a whole microsecond or follows from what did.
		r.ties = r.ties%991 + 1
		d := pick(o[6]/8, time.Millisecond, 10*time.Millisecond, 100*time.Millisecond, time.Second)
		d = d*time.Duration(1+int(o[7]))/16 + time.Duration(r.ties)
		ctx, c.cancel = context.WithTimeout(ctx, d)
		c.until = r.model.now + int64(d)
	}
	if over {
		c.cancel()
	}
	cost := o.cost()
	r.open = append(r.open, c)
	go func() {
		if v == pace {
			c.err = r.gate.Pace(ctx, cost)
		} else {
			c.given, c.err = r.gate.Acquire(ctx, cost)
		}
		c.answers = r.now()
		c.answered = true
	}()
	synctest.Wait()
	r.model.wait(&c.modelCall, over)
	r.logf("%v of %v by %s, %v, until %v, patient %v, over %v", []string{"", "acquire", "pace"}[v], c.cost, c.key,
		o.priority(), time.Duration(c.until), c.patient, over)
}

func (r *run) try(o operation) {
	c := &call{modelCall: modelCall{
		verb: try, cost: o.cost().clean(), key: o.key(), level: o.level(), until: forever,
	}}
	ctx := WithKey(WithPriority(context.Background(), o.priority()), c.key)
	c.given, c.err = r.gate.TryAcquire(ctx, o.cost())
	c.answered, c.answers = true, r.now()
	r.model.try(&c.modelCall)
	r.open = append(r.open, c)
	r.logf("try of %v by %s, %v: %v", c.cost, c.key, o.priority(), c.err)
}

// step does one operation to both.
func (r *run) step(o operation) error {
	switch kind := o[0] % 64; {
	case kind < 14:
		r.try(o)
	case kind < 28:
		if len(r.model.waiting) > 100 {
			return nil
		}
		r.acquire(o, acquire)
	case kind < 31:
		if len(r.model.waiting) > 100 {
			return nil
		}
		r.acquire(o, pace)
	case kind < 45: // release, also once more, and by a copy
		if len(r.ended) == 0 {
			return nil
		}
		i := (int(o[1])<<8 + int(o[2])) % len(r.ended)
		c, outcome := r.ended[i], Outcome(o[3]%4)
		c.given.Release(outcome)
		again := c.permit == nil || c.permit.released
		r.model.release(c.permit, outcome)
		if again && o[4]%2 == 0 {
			r.ended = slices.Delete(r.ended, i, i+1)
		}
		r.logf("release of %v, %v, again %v", c.cost, outcome, again)
	case kind < 54:
		d := time.Duration(1+o[2]%16) * time.Microsecond *
			pick[time.Duration](o[1], 1, 1, 10, 10, 100, 100, 1e3, 1e3, 1e3, 1e4, 1e4, 1e5, 3e5, 1.2e6)
		time.Sleep(d)
		synctest.Wait()
		r.logf("sleep %v", d)
		if !r.model.advance(r.model.now + int64(d)) {
			return errTie
		}
	case kind < 56:
		r.cancel(o)
	case kind < 58:
		r.gate.Charge(WithKey(context.Background(), o.key()), o.cost())
		r.model.charge(o.key(), o.cost().clean())
		r.logf("charge %v by %s", o.cost(), o.key())
	case kind < 60:
		f := pick(o[1], 1, 1, 1, 0.5, 0.25, 0.75, 0.3, 0, 1e-12, 2, -1, math.NaN())
		r.gate.SetFraction(f)
		r.model.setFraction(f)
		r.logf("fraction %v", f)
	case kind < 61:
		r.gate.SetPressure(o[1]%2 == 0)
		r.model.setPressure(o[1]%2 == 0)
		r.logf("pressure %v", o[1]%2 == 0)
	case kind < 62: // what looks at all that wait, and changes nothing
		// Who has been overtaken often enough, and who is served first, the next
		// walk may see otherwise.
		before, bounded, standing := len(r.model.waiting), r.model.bounded, r.model.standing
		r.gate.SetPressure(r.model.pressed)
		r.model.setPressure(r.model.pressed)
		r.logf("the same pressure")
		after := len(r.model.waiting)
		if after != before && !bounded && standing == r.model.standing {
			return fmt.Errorf("%d stood that could go", before-after)
		}
	default:
		o.knob(&r.cfg)
		if err := r.gate.Reconfigure(r.cfg); err != nil {
			return err
		}
		r.model.reconfigure(r.cfg)
		r.logf("reconfigure %+v", r.cfg)
	}
	return nil
}

// cancel ends the context of one that waits.
func (r *run) cancel(o operation) {
	if len(r.model.waiting) == 0 {
		return
	}
	q := r.model.waiting[int(o[1])%len(r.model.waiting)]
	for _, c := range r.open {
		if &c.modelCall == q {
			c.cancel()
			synctest.Wait()
			r.model.cancel(q)
			r.logf("cancel %v", q.cost)
			return
		}
	}
}

// compare says where gate and model differ.
func (r *run) compare() error {
	if r.model.due() <= r.model.now { // somebody's time was up already
		synctest.Wait()
		if !r.model.advance(r.model.now) {
			return errTie
		}
	}
	if got, want := r.gate.Stats(), r.model.snapshot(); got != want {
		return fmt.Errorf("the gate's books differ:\n got  %+v\n want %+v", got, want)
	}
	if slices.ContainsFunc(r.open, func(c *call) bool { return c.done }) {
		synctest.Wait() // they may be on their way
	}
	open := r.open[:0]
	var err error
	for _, c := range r.open {
		switch {
		case !c.done:
			open = append(open, c)
			continue
		case !c.answered:
			open = append(open, c)
			err = errors.Join(err, fmt.Errorf("%v of %v waits, want %+v", c.verb, c.cost, c.reject))
			continue
		}
		err = errors.Join(err, c.compare())
		if c.permit != nil || c.given != (Permit{}) {
			r.ended = append(r.ended, c)
		}
	}
	r.open = open
	return err
}

// compare says where two answers to one call differ.
func (c *call) compare() error {
	if c.cancel != nil {
		c.cancel()
	}
	if c.answers != c.at {
		return fmt.Errorf("%v of %v was answered at %v, want %v", c.verb, c.cost, c.answers, c.at)
	}
	rejected, _ := errors.AsType[*Error](c.err)
	switch want := c.reject; {
	case want.Reason == ReasonNone && c.err != nil:
		return fmt.Errorf("%v of %v: %v, want it admitted", c.verb, c.cost, c.err)
	case want.Reason == ReasonNone && (c.permit != nil) != (c.given != Permit{}):
		return fmt.Errorf("%v of %v: a permit: %v, want %v", c.verb, c.cost, c.given != Permit{}, c.permit != nil)
	case want.Reason == ReasonCanceled && (c.err == nil || rejected != nil):
		return fmt.Errorf("%v of %v: %v, want the error of its context", c.verb, c.cost, c.err)
	case want.Reason != ReasonNone && want.Reason != ReasonCanceled && (rejected == nil || *rejected != want):
		return fmt.Errorf("%v of %v:\n got  %+v\n want %+v", c.verb, c.cost, rejected, want)
	}
	return nil
}

// finish ends all of it, and says what is left behind.
func (r *run) finish() error {
	for _, c := range r.open {
		if c.cancel != nil {
			c.cancel()
		}
	}
	synctest.Wait()
	for _, c := range append(r.open, r.ended...) {
		c.given.Release(Success)
		c.given.Release(Success)
	}
	st := r.gate.Stats()
	if st.InFlight != (Cost{}) || st.Permits != 0 || st.Waiting != 0 || st.Pacing != 0 {
		return fmt.Errorf("something is left at the end: %+v", st)
	}
	return nil
}

// differ is a play that says where gate and model differ.
func differ(t *testing.T, ops []operation, log *strings.Builder) (steps int, err error) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{Seed: 1, Limit: Cost{Messages: 3}, Adaptive: AdaptiveConfig{Mode: AdaptiveOff}}
		r := &run{gate: newTest(t, cfg), model: newModel(cfg), cfg: cfg, begun: time.Now(), log: log}
		r.model.now = r.now()
		for _, o := range ops {
			steps++
			if err = r.step(o); err == nil {
				err = r.compare()
			}
			if err != nil {
				break
			}
		}
		if left := r.finish(); err == nil {
			err = left
		}
		if errors.Is(err, errTie) {
			err = nil
		}
	})
	return steps, err
}

// A play runs operations in a bubble of its own and returns what is wrong then, and
// after how many. log is nil or gets what was done.
type play func(t *testing.T, ops []operation, log *strings.Builder) (steps int, err error)

// shrink returns few of ops with which something is wrong too.
func (p play) shrink(t *testing.T, ops []operation) []operation {
	for size := len(ops) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(ops); {
			fewer := slices.Delete(slices.Clone(ops), from, from+size)
			if steps, err := p(t, fewer, nil); err != nil {
				ops = fewer[:min(steps, len(fewer))]
			} else {
				from += size
			}
		}
	}
	return ops
}

// check fails the test where something is wrong with ops.
func (p play) check(t *testing.T, name string, ops []operation) (steps int) {
	t.Helper()
	steps, err := p(t, ops, nil)
	if err != nil {
		few := p.shrink(t, ops[:steps])
		log := &strings.Builder{}
		_, err := p(t, few, log)
		t.Fatalf("%s, the shortest form of it:\n%s%v\n%#v", name, log, err, few)
	}
	return steps
}

// A million operations, each followed by a comparison of everything that a gate
// shows: in virtual time, and from fixed seeds.
func TestTheGateDoesWhatItsModelDoes(t *testing.T) {
	const shards, length = 4, 1000
	runs := 270
	switch {
	case testing.Short():
		runs = 20
	case raceDetector:
		runs = 60
	}
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			steps := 0
			for i := range runs {
				seed := uint64(shard*runs + i)
				steps += play(differ).check(t, fmt.Sprintf("seed %d", seed), randomOperations(seed, length))
			}
			t.Logf("%d operations", steps)
		})
	}
}
