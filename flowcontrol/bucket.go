package flowcontrol

import (
	"math"
	"time"
)

// Bucket time is the gate's monotonic clock in units of 1/64 ns, which keeps
// the rounding of a token's price below 0.01 % at ten million a second and
// lasts for four years of uptime.
const bucketShift = 6

func bucketTime(ns int64) int64 { return ns << bucketShift }

// nanoseconds is a span of bucket time, rounded up.
func nanoseconds(span int64) int64 { return (span + 1<<bucketShift - 1) >> bucketShift }

// longest bounds every span of bucket time, to 52 days, so that no sum of a few
// of them overflows.
const longest = int64(1) << 58

func toTime(f float64) int64 { return int64(math.Round(min(f, float64(longest)))) }

// prepayFrom is the rate from which tokens are prepaid; below, a reading of
// the clock costs less than a percent of what one token is worth.
const prepayFrom = 100_000

// A bucket is a token bucket in one word, by the generic cell rate algorithm
// (ITU-T I.371): full is the time at which the bucket will be full again. It
// only moves forward, so a stale clock reading can never mint tokens.
//
// At high rates a reading of the clock would cost more than the tokens, so a
// reading also pays for the next millisecond: these tokens are prepaid, and the
// window is smaller by as many, so that a burst stays within what was
// configured.
type bucket struct {
	rate    float64 // tokens per second; 0 = no bucket
	burst   int64
	price   float64 // of one token, in bucket time
	window  int64   // the time that fills the bucket
	prepay  int64   // tokens that one reading of the clock pays for; 0 = none
	full    int64
	prepaid int64
}

// set changes rate and burst, and keeps the tokens that are in the bucket, or
// the debt, as far as the new burst has room for them: time that passed counts
// at the old rate. A bucket that did not exist starts full.
func (b *bucket) set(rate Rate, burst, now int64) {
	if float64(rate) == b.rate && burst == b.burst {
		return
	}
	existed, level := b.rate > 0, b.level(now)
	*b = bucket{}
	if rate <= 0 {
		return
	}
	b.rate, b.burst, b.price = float64(rate), burst, float64(time.Second<<bucketShift)/float64(rate)
	b.window = toTime(float64(burst) * b.price)
	if rate >= prepayFrom {
		if b.prepay = min(int64(b.rate/1000), burst/8); b.prepay > 0 {
			b.window -= toTime(float64(b.prepay) * b.price)
		}
	}
	if existed {
		used := max(0, float64(b.window)/b.price-level)
		b.full = min(now+toTime(used*b.price), now+maxDebt(b.window))
	}
}

// maxDebt is how far full may lie ahead of the clock: an empty bucket stands at
// one window, and two bursts may be owed, so that one enormous unit of work
// does not close the gate for an hour.
func maxDebt(window int64) int64 { return 3 * window }

// level returns the tokens in the bucket; negative is debt.
func (b *bucket) level(now int64) float64 {
	if b.rate == 0 {
		return 0
	}
	return float64(b.window-max(0, b.full-now))/b.price + float64(b.prepaid)
}

// wait returns how long it takes until n tokens can be taken, in bucket time;
// zero or less is now. A cost above the burst waits for a full bucket and owes
// the rest.
func (b *bucket) wait(n, now int64) int64 {
	return max(b.full, now) + min(toTime(float64(n)*b.price), b.window) - b.window - now
}

// take takes n tokens, into debt if need be. A lower price for what the debt
// has no room for would be a gift; a higher one would close the gate.
func (b *bucket) take(n, now int64) {
	if n <= b.prepaid {
		b.prepaid -= n
		return
	}
	most := now + maxDebt(b.window)
	b.full = max(b.full, min(max(b.full, now)+toTime(float64(n)*b.price), most))
	if b.prepay > 0 && b.prepaid == 0 && b.wait(b.prepay, now) <= 0 {
		b.full = max(b.full, now) + toTime(float64(b.prepay)*b.price)
		b.prepaid = b.prepay
	}
}

// buckets are a bucket for each weight.
type buckets [weights]bucket

func (bs *buckets) set(r Rates, burst Cost, now int64) {
	for w := range Weight(weights) {
		bs[w].set(r.of(w), burst.Of(w), now)
	}
}

func (bs *buckets) any() bool {
	return bs[Messages].rate > 0 || bs[Rows].rate > 0 || bs[Bytes].rate > 0
}

// covered reports whether tokens that are prepaid cover c, so that no clock is needed.
func (bs *buckets) covered(c Cost) bool {
	return (bs[Messages].rate == 0 || c.Messages <= bs[Messages].prepaid) &&
		(bs[Rows].rate == 0 || c.Rows <= bs[Rows].prepaid) &&
		(bs[Bytes].rate == 0 || c.Bytes <= bs[Bytes].prepaid)
}

// wait returns how long it takes until the tokens of every weight can be taken,
// in bucket time, and the weight that takes longest.
func (bs *buckets) wait(c Cost, now int64) (longest int64, weight Weight) {
	return bs.waitBehind(Cost{}, c, now)
}

// waitBehind is wait for c after what is taken before it.
func (bs *buckets) waitBehind(before, c Cost, now int64) (longest int64, weight Weight) {
	for w := range Weight(weights) {
		b := &bs[w]
		if n := c.Of(w); b.rate > 0 && n > 0 && n > b.prepaid-before.Of(w) {
			if d := b.wait(n, now) + toTime(float64(before.Of(w))*b.price); d > longest {
				longest, weight = d, w
			}
		}
	}
	return longest, weight
}

// most is what c can take: the debt is bounded. Sums of it do not overflow.
func (bs *buckets) most(c Cost) Cost {
	most := func(w Weight) int64 {
		if bs[w].rate == 0 {
			return 0
		}
		return min(c.Of(w), 3*min(bs[w].burst, 1<<40))
	}
	return Cost{most(Messages), most(Rows), most(Bytes)}
}

func (bs *buckets) take(c Cost, now int64) {
	if c.Messages > 0 && bs[Messages].rate > 0 {
		bs[Messages].take(c.Messages, now)
	}
	if c.Rows > 0 && bs[Rows].rate > 0 {
		bs[Rows].take(c.Rows, now)
	}
	if c.Bytes > 0 && bs[Bytes].rate > 0 {
		bs[Bytes].take(c.Bytes, now)
	}
}

// idle reports whether every bucket is full.
func (bs *buckets) idle(now int64) bool {
	for w := range bs {
		if bs[w].rate > 0 && bs[w].full > now {
			return false
		}
	}
	return true
}
