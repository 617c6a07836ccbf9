package interceptors

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Messages of every size, those included that leave a field just not full, or
// do not fit the word at all.
func TestTallyAddsUp(t *testing.T) {
	sizes := []int64{0, 1, 100, largeRows - 1, largeRows, largeBytes - 1, largeBytes, largeBytes + 1, 1 << 40}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var tl tally
		require.True(t, tl.empty())
		var messages, rows, bytes int64
		for i := range 20_000 {
			row, size := sizes[r.IntN(5)], sizes[r.IntN(len(sizes))]
			if i%3 > 0 {
				row, size = r.Int64N(10_000), r.Int64N(1<<20)
			}
			tl.add(row, size)
			messages, rows, bytes = messages+1, rows+row, bytes+size
			m, rr, b := tl.read()
			require.Equal(t, []int64{messages, rows, bytes}, []int64{m, rr, b})
			require.False(t, tl.empty())
		}
	}
}

// Every message is as large as its number of rows, so a reader that found one
// half added, twice or not at all, would see it.
func TestTallyIsNeverSeenHalfAdded(t *testing.T) {
	const messages, rows = 200_000, largeRows / 5 // a fold every few messages
	var tl tally
	var wg sync.WaitGroup
	wg.Go(func() {
		for range messages {
			tl.add(rows, rows)
		}
	})
	for last := int64(0); last < messages; {
		m, r, b := tl.read()
		require.GreaterOrEqual(t, m, last)
		require.Equal(t, m*rows, r)
		require.Equal(t, m*rows, b)
		last = m
	}
	wg.Wait()
}
