package connpool

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
)

// idlePool is a pool without a worker, for what needs no connection.
func idlePool(p Picker, slots, limit int) *lane {
	pool := &Pool{cfg: Config{Picker: p, MaxConnections: slots}.withDefaults("")}
	pool.wakeups.Store(1) // as if the worker were running: none starts
	l := &lane{pool: pool}
	active := make([]*slot, slots)
	for i := range active {
		active[i] = &slot{lane: l, id: i}
		active[i].limit.Store(uint32(limit))
		active[i].high.Store(uint32(limit))
	}
	l.slots.Store(&active)
	return l
}

var pickers = []Picker{RoundRobin, LeastLoaded, PowerOfTwo, FirstHealthy}

func TestHotPathAllocatesNothing(t *testing.T) {
	for _, p := range pickers {
		l := idlePool(p, 8, 100)
		require.Zero(t, testing.AllocsPerRun(100, func() { l.pick().release() }), p)
		require.Zero(t, testing.AllocsPerRun(100, func() { l.pickAffine("session").release() }), p)
	}
}

func TestPickersRespectLimitsAndFlags(t *testing.T) {
	for _, p := range pickers {
		t.Run(p.String(), func(t *testing.T) {
			l := idlePool(p, 4, 5)
			slots := *l.slots.Load()
			slots[1].word.Or(flagDown)
			slots[2].limit.Store(2)
			for range 12 {
				require.NotNil(t, l.pick())
			}
			require.Nil(t, l.pick(), "everything is taken")
			for i, want := range []int{5, 0, 2, 5} {
				require.Equal(t, want, slots[i].running())
			}
			slots[3].release()
			require.Same(t, slots[3], l.pick())
			slots[1].word.And(^flagDown)
			require.Same(t, slots[1], l.pick())
		})
	}
}

func TestPickersSpreadOrPack(t *testing.T) {
	counts := func(p Picker) []int {
		l := idlePool(p, 4, 100)
		for range 100 {
			l.pick()
		}
		var n []int
		for _, s := range *l.slots.Load() {
			n = append(n, s.running())
		}
		return n
	}
	require.Equal(t, []int{25, 25, 25, 25}, counts(RoundRobin))
	require.Equal(t, []int{25, 25, 25, 25}, counts(LeastLoaded))
	require.Equal(t, []int{100, 0, 0, 0}, counts(FirstHealthy))
	for _, n := range counts(PowerOfTwo) {
		require.InDelta(t, 25, n, 5)
	}
}

func TestAffinityMovesOnlyWhatItMust(t *testing.T) {
	l := idlePool(RoundRobin, 8, 100)
	slots := *l.slots.Load()
	place := map[string]*slot{}
	for i := range 40 {
		key := fmt.Sprint("session ", i)
		place[key] = l.pickAffine(key)
		require.Same(t, place[key], l.pickAffine(key))
	}
	rest := append([]*slot{}, slots[1:]...)
	l.slots.Store(&rest)
	for key, s := range place {
		if s != slots[0] {
			require.Same(t, s, l.pickAffine(key))
		} else {
			require.NotNil(t, l.pickAffine(key))
		}
	}
}

// A count of 0 with uses that wrap around touches no flag.
func TestUsesWrapAround(t *testing.T) {
	l := idlePool(RoundRobin, 1, 10)
	s := (*l.slots.Load())[0]
	s.word.Store(^uint64(0) &^ (countMask | flagMask))
	require.True(t, s.tryAcquire())
	require.Zero(t, s.uses())
	require.Equal(t, 1, s.running())
	require.False(t, s.has(flagMask))
}

// A million races of acquire against drain: nobody holds a place on a slot that
// was closed, and every drained slot is closed once its last caller has left.
func TestAcquireAgainstDrain(t *testing.T) {
	const races, callers = 1_000_000, 4
	l := idlePool(RoundRobin, 1, 100)
	fresh := func() *slot {
		s := &slot{lane: l}
		s.limit.Store(100)
		s.high.Store(1000)
		return s
	}
	var current atomic.Pointer[slot]
	current.Store(fresh())
	var wins, broken atomic.Int64
	drained := make([][]*slot, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := range races / callers {
				s := current.Load()
				if n%32 == 0 { // under the others, who are acquiring and releasing
					s.drain()
					if n%96 == 0 {
						s.undrain()
						s.drain()
					}
					if current.CompareAndSwap(s, fresh()) {
						drained[i] = append(drained[i], s)
					}
				}
				if !s.tryAcquire() {
					continue
				}
				wins.Add(1)
				if n%16 == 0 {
					runtime.Gosched() // drain it while a call runs
				}
				if s.has(flagClosed) {
					broken.Add(1) // the call would see "client connection is closing"
				}
				s.release()
			}
		})
	}
	wg.Wait()
	require.Zero(t, broken.Load())
	count := 0
	for _, s := range slices.Concat(drained...) {
		count++
		require.Zero(t, s.running())
		require.True(t, s.has(flagClosed))
	}
	require.Greater(t, count, 1000)
	t.Logf("%d drains against %d acquires", count, wins.Load())
}

func BenchmarkHotAcquireRelease(b *testing.B) {
	for _, p := range pickers {
		b.Run(p.String(), func(b *testing.B) {
			l := idlePool(p, 8, 100)
			b.ReportAllocs()
			began := cpuTime()
			for b.Loop() {
				l.pick().release()
			}
			b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

func BenchmarkHotAcquireReleaseParallel(b *testing.B) {
	for _, p := range pickers[:2] {
		b.Run(p.String(), func(b *testing.B) {
			l := idlePool(p, 8, 1000)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					l.pick().release()
				}
			})
		})
	}
}

// A lockedPool is what most pools do: a mutex, a scan for the least loaded
// connection that is usable by its state, and the mutex again for the release.
type lockedPool struct {
	mu    sync.Mutex
	conns []lockedConn
}

type lockedConn struct {
	cc      *grpc.ClientConn
	running int
	uses    int
}

func (p *lockedPool) acquire() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i := range p.conns {
		if st := p.conns[i].cc.GetState(); st != connectivity.Ready && st != connectivity.Idle {
			continue
		}
		if best < 0 || p.conns[i].running < p.conns[best].running {
			best = i
		}
	}
	p.conns[best].running++
	p.conns[best].uses++
	return best
}

func (p *lockedPool) release(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[i].running--
}

func BenchmarkLockedLeastLoaded(b *testing.B) {
	p := &lockedPool{}
	for range 8 {
		cc, err := grpc.NewClient("passthrough:///unused", grpc.WithTransportCredentials(insecure.NewCredentials()))
		require.NoError(b, err)
		defer cc.Close()
		p.conns = append(p.conns, lockedConn{cc: cc, running: 1})
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		began := cpuTime()
		for b.Loop() {
			p.release(p.acquire())
		}
		b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/op")
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				p.release(p.acquire())
			}
		})
	})
}

// BenchmarkCall is what a call costs from its place to its end: its context, and
// that it is listed while it runs.
func BenchmarkCall(b *testing.B) {
	l := idlePool(RoundRobin, 1, 100)
	s := (*l.slots.Load())[0]
	s.created = time.Now()
	ctx := b.Context()
	b.ReportAllocs()
	began := cpuTime()
	for b.Loop() {
		newCall(ctx, l.pick()).end(nil)
	}
	b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/op")
}
