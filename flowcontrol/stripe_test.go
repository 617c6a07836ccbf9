package flowcontrol

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// newSpread returns a Throttler with n stripes, as calls that fight make it.
func newSpread(t *testing.T, cfg Config, n int) *Throttler {
	t.Helper()
	th := newTest(t, cfg)
	th.stripes.spread(n)
	require.Equal(t, n, th.stripes.count())
	return th
}

func TestCallsThatFightGetStripes(t *testing.T) {
	th := newTest(t, Config{})
	for range fights - 1 {
		th.stripes.lose(1)
	}
	require.Equal(t, 1, th.stripes.count())
	th.stripes.lose(1)
	require.GreaterOrEqual(t, th.stripes.count(), 2*runtime.GOMAXPROCS(0))
	require.Equal(t, th.stripes.count()&-th.stripes.count(), th.stripes.count(), "a power of two")

	before := issued.Load()
	th.stripes.lose(1)
	require.Greater(t, issued.Load(), before, "who meets another in its stripe takes another one")

	seeded := newTest(t, Config{Seed: 1})
	for range 2 * fights {
		seeded.stripes.lose(1)
	}
	require.Equal(t, 1, seeded.stripes.count(), "what is drawn stays repeatable")
}

// As many callers as there is room for, each with one permit at most: none may
// ever be refused, wherever the room was last given back, also while peaks are
// taken, which moves what is spare. And nobody else gets in.
func TestSpreadRoomIsNeitherLostNorGivenTwice(t *testing.T) {
	for _, tc := range []struct {
		callers int
		costs   []int64
	}{{2, []int64{1}}, {3, []int64{1}}, {24, []int64{1, 2, 3}}} {
		calls := 60_000 / tc.callers
		limit := int64(tc.callers) * tc.costs[len(tc.costs)-1]
		th := newSpread(t, Config{Limit: Cost{Messages: limit}}, 8)
		var working atomic.Int64
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range tc.callers {
			wg.Go(func() {
				for i := range calls {
					c := Cost{Messages: tc.costs[i%len(tc.costs)]}
					p, err := th.TryAcquire(t.Context(), c)
					if err != nil {
						t.Errorf("refused with room for all: %v", err)
						return
					}
					if n := working.Add(c.Messages); n > limit {
						t.Errorf("%d in flight, the limit is %d", n, limit)
					}
					working.Add(-c.Messages)
					p.Release(Success)
				}
			})
		}
		var watching sync.WaitGroup
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if n := th.TakePeak().Messages; n < 0 || n > limit {
					t.Errorf("a peak of %d, the limit is %d", n, limit)
				}
				if n := th.InFlight().Messages; n < 0 || n > limit {
					t.Errorf("%d in flight, the limit is %d", n, limit)
				}
			}
		})
		wg.Wait()
		close(stop)
		watching.Wait()
		require.Zero(t, th.InFlight())
		require.Zero(t, th.Stats().Refused.Total())
		require.Equal(t, uint64(tc.callers*calls), th.Stats().Succeeded)
	}
}

// More callers than room, of any cost, while the limit goes up and down: never
// more than the largest limit, and never more than the smallest once that holds.
func TestSpreadRoomFollowsTheLimit(t *testing.T) {
	th := newSpread(t, Config{Limit: Cost{Messages: 40}}, 4)
	var working atomic.Int64
	var wg sync.WaitGroup
	var low atomic.Bool
	stop := make(chan struct{})
	for g := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for {
				select {
				case <-stop:
					return
				default:
					runtime.Gosched() // on a single processor nobody else would get on
				}
				c := Cost{Messages: 1 + r.Int64N(3)}
				settled := low.Load()
				p, err := th.TryAcquire(t.Context(), c)
				if err != nil {
					continue
				}
				n := working.Add(c.Messages)
				if n > 40 || settled && low.Load() && n > 5 {
					t.Errorf("%d in flight, settled at 5: %v", n, settled)
				}
				working.Add(-c.Messages)
				p.Release(Success)
			}
		})
	}
	for range 50 {
		require.NoError(t, th.Reconfigure(Config{Limit: Cost{Messages: 5}}))
		for working.Load() > 5 || th.InFlight().Messages > 5 {
			runtime.Gosched()
		}
		low.Store(true)
		for range 200 {
			runtime.Gosched()
		}
		low.Store(false)
		require.NoError(t, th.Reconfigure(Config{Limit: Cost{Messages: 40}}))
	}
	close(stop)
	wg.Wait()
	require.Zero(t, th.InFlight())
}

// Room that lies spare in several stripes serves one large call, and a peak
// counts what was held, not what was ever reserved for stripes.
func TestSpareRoomIsGatheredForALargeCall(t *testing.T) {
	th := newSpread(t, Config{Limit: Cost{Messages: 8}}, 4)
	s, all := th.settings.Load(), []*stripe{}
	for each := range th.stripes.all {
		all = append(all, each)
	}
	require.Len(t, all, 4)
	var held []Permit
	for i := range 8 {
		p, _, ok := th.flight.acquire(all[i%4], one, s.limit)
		require.True(t, ok)
		held = append(held, p)
	}
	_, w, ok := th.flight.acquire(all[0], one, s.limit)
	require.False(t, ok)
	require.Equal(t, Messages, w)
	for _, p := range held[:6] {
		p.Release(Success)
	}
	require.Equal(t, int64(2), th.InFlight().Messages)
	_, _, ok = th.flight.acquire(all[0], Cost{Messages: 7}, s.limit)
	require.False(t, ok, "nothing has changed after it")
	require.Equal(t, int64(2), th.InFlight().Messages)
	big, _, ok := th.flight.acquire(all[0], Cost{Messages: 6}, s.limit)
	require.True(t, ok)
	require.Equal(t, int64(8), th.InFlight().Messages)
	big.Release(Success)
	require.NoError(t, th.Reconfigure(Config{Limit: Cost{Messages: 4}}))
	p, err := th.TryAcquire(t.Context(), one)
	require.NoError(t, err, "below a limit that went down, which gathers too")
	p.Release(Success)
	require.Equal(t, int64(8), th.Stats().Peak.Messages)
	require.Equal(t, int64(8), th.TakePeak().Messages)
	require.Equal(t, int64(2), th.Stats().Peak.Messages)
	require.Equal(t, int64(2), th.TakePeak().Messages)
	for _, p := range held {
		p.Release(Success)
	}
	require.Zero(t, th.InFlight())
}

// A message that lies with a slot at hand serves a call of another stripe, and
// the slot serves the next call that brings its own.
func TestMessagesAtHandServeOtherStripes(t *testing.T) {
	th := newSpread(t, Config{Limit: Cost{Messages: hands}}, 2)
	s, first, second := th.settings.Load(), th.stripes.first, (*th.stripes.more.Load())[0]
	take := func(home *stripe) Permit {
		p, _, ok := th.flight.acquire(home, one, s.limit)
		require.True(t, ok)
		return p
	}
	var held []Permit
	for range hands {
		held = append(held, take(first))
	}
	for _, p := range held {
		p.Release(Success)
	}
	require.True(t, first.has(1))
	held = held[:0]
	for range hands {
		held = append(held, take(second))
	}
	require.False(t, first.has(1))
	_, _, ok := th.flight.acquire(first, one, s.limit)
	require.False(t, ok)
	held[0].Release(Success)
	require.True(t, second.has(1))
	p := take(first)
	require.Equal(t, &first.hand[0], p.slot)
	p.Release(Success)
	q := take(first)
	require.Equal(t, p.slot, q.slot)
	require.Equal(t, p.gen+1, q.gen)
}

// What a look found was true at one instant only if nothing moved since: room
// that went from a stripe not yet looked at to one already looked at is in
// neither, and a caller would be refused with room to spare.
func TestALookKnowsWhetherAnythingMoved(t *testing.T) {
	th := newSpread(t, Config{Limit: Cost{Messages: 2}}, 2)
	f, s := &th.flight, th.settings.Load()
	p, _, ok := f.acquire(th.stripes.first, one, s.limit)
	require.True(t, ok)
	v := f.look()
	require.Equal(t, int64(1), v.reserved-v.spare)
	require.True(t, f.still(v))
	p.Release(Success)
	require.False(t, f.still(v), "released")
	v = f.look()
	p, _, ok = f.acquire((*th.stripes.more.Load())[0], one, s.limit)
	require.True(t, ok)
	require.False(t, f.still(v), "taken by another stripe")
	v = f.look()
	p.Release(Success)
	p, _, ok = f.acquire((*th.stripes.more.Load())[0], one, s.limit)
	require.True(t, ok)
	require.False(t, f.still(v), "the same numbers as before, but everything has moved")
	v = f.look()
	f.gather(0, MaxMessages)
	require.False(t, f.still(v), "gathered")
	p.Release(Success)
	v = f.look()
	f.moves.Add(1) // as in the middle of a gathering
	require.False(t, f.still(f.look()))
	f.moves.Add(1)
	require.False(t, f.still(v))
}

func TestSpreadDrawsAreUnbiased(t *testing.T) {
	th := newSpread(t, Config{Limit: Cost{Messages: -1}}, 8)
	th.SetFraction(0.29)
	const calls, callers = 10_000, 8
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range calls {
				if p, err := th.TryAcquire(t.Context(), one); err == nil {
					admitted.Add(1)
					p.Release(Success)
				}
			}
		})
	}
	wg.Wait()
	require.InDelta(t, 0.29*calls*callers, float64(admitted.Load()), 2*8)
}

// The leases of all stripes together stay within what the bucket was made
// smaller by: no burst is larger than the configured one.
func TestSpreadLeasesStayWithinTheBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, burst = 1_000_000, 50_000
		th := newSpread(t, Config{Limit: Cost{Messages: -1}, Rate: Rates{Messages: rate}, Burst: Cost{Messages: burst}}, 8)
		take := func() int64 {
			var admitted atomic.Int64
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for {
						p, err := th.TryAcquire(t.Context(), one)
						if err != nil {
							return
						}
						admitted.Add(1)
						p.Release(Success)
					}
				})
			}
			wg.Wait()
			return admitted.Load()
		}
		total := take()
		require.LessOrEqual(t, total, int64(burst))
		require.InDelta(t, burst, float64(total), rate/1000, "all but a lease")
		for range 100 {
			time.Sleep(10 * time.Millisecond)
			total += take()
		}
		require.LessOrEqual(t, total, int64(burst+rate))
		require.InDelta(t, burst+rate, float64(total), rate/1000)
	})
}
