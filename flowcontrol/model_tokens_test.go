package flowcontrol

import "math"

// A modelBucket is what is owed of a full bucket, as the time that pays for it,
// in 1/64 ns.
type modelBucket struct {
	rate   float64
	burst  int64
	price  float64
	window int64 // that pays for a full bucket
	owed   int64
	at     int64
}

func (b *modelBucket) span(tokens float64) int64 {
	return int64(math.Round(min(tokens*b.price, float64(1<<58))))
}

func (b *modelBucket) pass(now int64) { // time pays
	b.owed, b.at = max(0, b.owed-(now-b.at)<<6), now
}

func (b *modelBucket) set(now int64, rate Rate, burst int64) {
	if rate <= 0 {
		*b = modelBucket{}
		return
	}
	existed, used := b.rate > 0, 0.0
	if b.rate == float64(rate) && b.burst == burst {
		return
	}
	if existed {
		b.pass(now)
		level := float64(b.window-b.owed) / b.price
		used = -level
	}
	*b = modelBucket{rate: float64(rate), burst: burst, price: 64e9 / float64(rate), at: now}
	b.window = b.span(float64(burst))
	if existed {
		used = max(0, used+float64(b.window)/b.price)
		b.owed = min(b.span(used), 3*b.window)
	}
}

// wait is how long it takes until n tokens are there; a cost above the burst
// waits for a full bucket.
func (b *modelBucket) wait(now, n int64) int64 {
	b.pass(now)
	return b.owed + min(b.span(float64(n)), b.window) - b.window
}

func (b *modelBucket) take(now, n int64) { // into debt, two bursts at most
	b.pass(now)
	b.owed = max(b.owed, min(b.owed+b.span(float64(n)), 3*b.window))
}

type modelBuckets [weights]modelBucket

func (bs *modelBuckets) set(now int64, r Rates, burst Cost) {
	for w := range Weight(weights) {
		bs[w].set(now, r.of(w), burst.Of(w))
	}
}

func (bs *modelBuckets) take(now int64, c Cost) {
	for w := range Weight(weights) {
		if bs[w].rate > 0 && c.Of(w) > 0 {
			bs[w].take(now, c.Of(w))
		}
	}
}

// wait is the longest wait of a weight for c, after what is before it.
func (bs *modelBuckets) wait(now int64, before, c Cost) (longest int64, weight Weight) {
	for w := range Weight(weights) {
		if bs[w].rate == 0 || c.Of(w) == 0 {
			continue
		}
		if d := bs[w].wait(now, c.Of(w)) + bs[w].span(float64(before.Of(w))); d > longest {
			longest, weight = d, w
		}
	}
	return longest, weight
}

func (bs *modelBuckets) full(now int64) bool {
	for w := range bs {
		if bs[w].rate > 0 && bs[w].wait(now, bs[w].burst) > 0 {
			return false
		}
	}
	return true
}

func (m *model) setRates() {
	m.tokens.set(m.now, m.cfg.Rate, m.cfg.Burst)
	if m.cfg.MaxKeys <= 0 {
		return
	}
	m.rest.tokens.set(m.now, m.cfg.KeyRate, m.cfg.KeyBurst)
	for key, t := range m.known {
		m.setTenantRates(key, t)
	}
}

func (m *model) setTenantRates(key string, t *modelTenant) {
	r, burst := m.cfg.KeyRate, m.cfg.KeyBurst
	if m.cfg.KeyRateOf != nil {
		r, burst = m.cfg.KeyRateOf(key)
		burst = r.burst(burst)
	}
	t.tokens.set(m.now, r, burst)
}
