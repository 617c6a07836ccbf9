package flowcontrol

import (
	"math"
	"sync/atomic"
	"time"
)

// Bucket time is the throttler's monotonic clock in units of 1/64 ns, which
// keeps the rounding of a token's price below 0.01 % at ten million a second
// and lasts for four years of uptime.
const bucketShift = 6

func bucketTime(ns int64) int64 { return ns << bucketShift }

// A tariff is what a bucket's rate and burst come to, in bucket time.
type tariff struct {
	price  float64 // of one token
	window int64   // the time that fills the bucket
	lease  int64   // tokens that all stripes together may hold for later calls
	burst  int64
	rate   float64
}

// newTariff returns nil where there is no rate.
func newTariff(rate Rate, burst int64) *tariff {
	if rate <= 0 {
		return nil
	}
	t := &tariff{rate: float64(rate), burst: burst, price: float64(time.Second<<bucketShift) / float64(rate)}
	t.window = toTime(float64(burst) * t.price)
	if rate >= leaseFrom {
		// One millisecond's worth is paid for at once, and the bucket is made
		// smaller by it, so that bursts stay within what was configured.
		t.lease = max(1, min(int64(float64(rate)/1000), burst/8))
		if t.lease > 1 {
			t.window -= toTime(float64(t.lease) * t.price)
		}
	}
	return t
}

const leaseFrom = 100_000

func (t *tariff) cost(n int64) int64 { return toTime(float64(n) * t.price) }

func toTime(f float64) int64 {
	if f >= 1<<60 {
		return 1 << 60
	}
	return int64(math.Round(f))
}

// A bucket is a token bucket in one word, by the generic cell rate algorithm
// (ITU-T I.371): full is the time at which the bucket will be full again. It
// only moves forward, so a stale clock reading can never mint tokens, and a
// refused call publishes nothing.
type bucket struct {
	full atomic.Int64
	_    [56]byte
}

// spend takes n tokens of a lease, which needs no clock.
func spend(credit *atomic.Int64, n int64) bool {
	for {
		left := credit.Load()
		if left < n {
			return false
		}
		if credit.CompareAndSwap(left, left-n) {
			return true
		}
	}
}

// borrow takes n tokens, and a lease of more for the calls that follow, or nothing.
func (b *bucket) borrow(t *tariff, credit *atomic.Int64, n, lease, now int64) bool {
	left := credit.Load()
	if _, ok := b.take(t, n+lease, now, false); !ok {
		return false
	}
	// Only one of those who find the credit used up may add to it, so that it
	// never grows beyond what the bucket was made smaller by.
	if !credit.CompareAndSwap(left, left+lease) {
		b.refund(t, lease)
	}
	return true
}

// take takes n tokens at the time now, or returns the time to wait for them
// and takes nothing. alone lets a cost above the burst pass a full bucket.
func (b *bucket) take(t *tariff, n, now int64, alone bool) (wait int64, ok bool) {
	return b.reserve(t, n, now, 0, alone)
}

// reserve is take for a caller who is ready to wait up to patience: it takes
// the tokens and returns how long to wait before using them.
func (b *bucket) reserve(t *tariff, n, now, patience int64, alone bool) (wait int64, ok bool) {
	price := t.cost(n)
	need := price
	if alone && need > t.window {
		need = t.window // the bucket pays the rest later
	}
	for lost := 0; ; lost++ {
		yield(lost)
		full := b.full.Load()
		base := max(full, now)
		wait = base + need - t.window - now
		if wait > patience {
			return wait, false
		}
		if b.full.CompareAndSwap(full, base+price) {
			return max(0, wait), true
		}
	}
}

// peek returns how long n tokens would take, without taking them.
func (b *bucket) peek(t *tariff, n, now int64, alone bool) int64 {
	need := t.cost(n)
	if alone && need > t.window {
		need = t.window
	}
	return max(b.full.Load(), now) + need - t.window - now
}

// refund gives n tokens back. It may be subtracted from whatever the word has
// become: had the call never come, everyone after it would stand exactly that
// much earlier.
func (b *bucket) refund(t *tariff, n int64) { b.full.Add(-t.cost(n)) }

// charge books n tokens that were used already. The debt is bounded to two
// bursts, so that one enormous unit does not close the gate for an hour.
func (b *bucket) charge(t *tariff, n, now int64) {
	price := t.cost(n)
	ceiling := now + 3*t.window // an empty bucket stands at now+window
	for {
		full := b.full.Load()
		next := min(max(full, now)+price, ceiling)
		if next <= full || b.full.CompareAndSwap(full, next) {
			return
		}
	}
}

// rescale keeps the number of tokens that are used up when the rate changes.
func (b *bucket) rescale(old, now *tariff, at int64) {
	if old == nil || now == nil || old.price == now.price {
		return
	}
	for {
		full := b.full.Load()
		next := full
		if full > at {
			next = at + toTime(float64(full-at)/old.price*now.price)
		}
		if b.full.CompareAndSwap(full, next) {
			return
		}
	}
}

// level returns the tokens in the bucket, apart from leases; negative is debt.
func (b *bucket) level(t *tariff, now int64) float64 {
	used := float64(max(0, b.full.Load()-now)) / t.price
	return float64(t.window)/t.price - used
}
