package flowcontrol

import "sync/atomic"

// A meter counts one weight by what was ever acquired and ever released. A
// release only adds to the second word, which makes an outdated read of it too
// small, and so the in-flight value too large: the limit is never exceeded,
// and the two sides do not fight over one cache line.
type meter struct {
	acquired atomic.Int64
	_        [56]byte
	released atomic.Int64
	_        [56]byte
}

func (m *meter) inFlight() int64 {
	released := m.released.Load() // first, so that the difference is never negative
	return m.acquired.Load() - released
}

// take acquires n if the limit allows; a negative limit is none.
func (m *meter) take(n, limit int64) (now int64, ok bool) {
	for {
		released := m.released.Load()
		acquired := m.acquired.Load()
		now = saturate(acquired-released, n)
		if limit >= 0 && now > limit || now == maxCount {
			return now - n, false
		}
		if m.acquired.CompareAndSwap(acquired, acquired+n) {
			return now, true
		}
	}
}

const maxCount = 1<<63 - 1

// raise makes p at least now.
func raise(p *atomic.Int64, now int64) {
	for old := p.Load(); now > old; old = p.Load() {
		if p.CompareAndSwap(old, now) {
			return
		}
	}
}
