package connpool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/withobsrvr/sluice/connpool"
	"github.com/withobsrvr/sluice/connpool/connpooltest"
)

// A line is what a pool is to its callers: so many streams run, so many wait in
// the order in which they came, and the others are rejected.
type line struct {
	places, queue    int
	running, waiting []int
	rejected         int
}

func (l *line) open(id int) {
	switch {
	case len(l.running) < l.places:
		l.running = append(l.running, id)
	case len(l.waiting) < l.queue:
		l.waiting = append(l.waiting, id)
	default:
		l.rejected++
	}
}

func (l *line) end(id int) {
	is := func(o int) bool { return o == id }
	l.running, l.waiting = slices.DeleteFunc(l.running, is), slices.DeleteFunc(l.waiting, is)
	if len(l.running) < l.places && len(l.waiting) > 0 {
		l.running, l.waiting = append(l.running, l.waiting[0]), l.waiting[1:]
	}
}

// Streams that come, end and give up at random, while connections are opened,
// drained and taken back under them: whatever the picker, the pool admits the
// same ones as a line would, in the same order.
func TestPoolFollowsALine(t *testing.T) {
	for seed := range uint64(24) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			most, each, queue := 1+random.IntN(4), 1+random.IntN(5), []int{-1, 1, 5}[random.IntN(3)]
			_, pool := start(t, connpooltest.Behavior{MaxStreams: uint32(each)}, func(c *connpool.Config) {
				c.MinConnections, c.MaxConnections, c.QueueSize = 1, most, queue
				c.Picker = connpool.Picker(seed % 4)
				c.IdleTimeout = time.Minute
				c.HealthCheckInterval = -1 // a check takes a stream of the server's for a moment
			})
			require.NoError(t, connpooltest.Call(t.Context(), pool))

			l := line{places: most * each, queue: max(queue, 0), running: []int{}}
			var mu sync.Mutex
			running, rejected, cancels := map[int]bool{}, 0, map[int]context.CancelFunc{}
			open := func(id int) {
				ctx, cancel := context.WithCancel(t.Context())
				cancels[id] = cancel
				go func() {
					s, err := connpooltest.OpenServerStream(ctx, pool)
					if err == nil {
						err = connpooltest.Recv(s)
					}
					mu.Lock()
					running[id] = err == nil
					if e, ok := errors.AsType[*connpool.Error](err); ok && e.Cause == nil {
						rejected++
					}
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					delete(running, id)
					mu.Unlock()
				}()
			}
			for id := range 400 {
				switch live := slices.Concat(l.running, l.waiting); {
				case random.IntN(5) < 3 || len(live) == 0:
					l.open(id)
					open(id)
				case random.IntN(3) > 0:
					gone := live[random.IntN(len(live))]
					l.end(gone)
					cancels[gone]()
				default:
					time.Sleep(time.Duration(random.IntN(180)) * time.Second)
				}
				synctest.Wait()
				mu.Lock()
				var now []int
				for id, runs := range running {
					if runs {
						now = append(now, id)
					}
				}
				mu.Unlock()
				slices.Sort(now)
				slices.Sort(l.running)
				st := pool.Stats()
				require.Equal(t, l.running, append([]int{}, now...), "seed %d, step %d: %+v", seed, id, st)
				require.Equal(t, len(l.running), st.Streams, "seed %d, step %d", seed, id)
				require.Equal(t, len(l.waiting), st.Waiting, "seed %d, step %d: %+v", seed, id, st)
				require.Equal(t, l.rejected, rejected, "seed %d, step %d: %+v", seed, id, st)
				require.LessOrEqual(t, st.TotalConnections, most)
			}
			for _, cancel := range cancels {
				cancel()
			}
		})
	}
}
