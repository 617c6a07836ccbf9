package flowcontrol

// Charge books work that is done already, or whose size became known late: its
// rows and bytes, say, once it was decoded. The tokens may go into debt, by two
// bursts at most, and later calls wait for it.
func (t *Throttler) Charge(c Cost) {
	if s := t.settings.Load(); s.rated && s.cfg.Mode != Off {
		t.chargeTokens(s, c.clean())
	}
}

// Observe is Charge for a gate that is not enforcing yet: call it for work
// that went around the Throttler, so that turning enforcement on does not
// start from a full bucket.
func (t *Throttler) Observe(c Cost) {
	if s := t.settings.Load(); s.rated {
		t.chargeTokens(s, c.clean())
	}
}

func (t *Throttler) chargeTokens(s *settings, c Cost) {
	now := bucketTime(t.now())
	for w, tariff := range s.tariffs {
		if n := c.Of(Weight(w)); tariff != nil && n > 0 {
			t.buckets[w].charge(tariff, n, now)
		}
	}
}

// takeTokens takes the tokens of every weight or of none. patience is how long
// the caller would wait for them, in bucket time; wait is how long it must.
func (t *Throttler) takeTokens(s *settings, c Cost, patience int64, v *visit) (wait int64, worst Weight, ok bool) {
	alone := s.cfg.Oversized == RunAlone
	for w := range Weight(weights) {
		tariff, n := s.tariffs[w], c.Of(w)
		if tariff == nil || n <= 0 {
			continue
		}
		b := &t.buckets[w]
		credit := &v.home.credit[w]
		if tariff.lease > 1 && spend(credit, n) {
			continue
		}
		now := bucketTime(t.read(v))
		if lease := tariff.lease / int64(t.stripes.count()); lease > n && b.borrow(tariff, credit, n, lease, now) {
			continue
		}
		need, ok := b.reserve(tariff, n, now, patience, alone)
		if !ok && tariff.lease > 1 && t.stripes.spend(w, n) {
			continue
		}
		if need > wait {
			wait, worst = need, w
		}
		if ok {
			continue
		}
		for u := range w {
			if tariff, n := s.tariffs[u], c.Of(u); tariff != nil && n > 0 {
				t.buckets[u].refund(tariff, n)
			}
		}
		// The hint covers the weights behind this one too.
		for u := w + 1; u < weights; u++ {
			if tariff, n := s.tariffs[u], c.Of(u); tariff != nil && n > 0 {
				if need := t.buckets[u].peek(tariff, n, now, alone); need > wait {
					wait, worst = need, u
				}
			}
		}
		return wait, worst, false
	}
	return wait, worst, true
}

func (t *Throttler) refundTokens(s *settings, c Cost) {
	for w := range Weight(weights) {
		if tariff, n := s.tariffs[w], c.Of(w); tariff != nil && n > 0 {
			t.buckets[w].refund(tariff, n)
		}
	}
}

// enforcesTokens reports whether tokens are enforced at this moment.
func (t *Throttler) enforcesTokens(s *settings) bool {
	return s.cfg.Mode != EnforceUnderPressure || t.underPressure(s)
}

func (t *Throttler) underPressure(s *settings) bool {
	if t.pressed.Load() || t.sampler.engaged.Load() {
		return true
	}
	return s.cfg.PressureLoad > 0 && load(t.flight.cost(), t.limit(s)) >= s.cfg.PressureLoad
}
