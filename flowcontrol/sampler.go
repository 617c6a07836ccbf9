package flowcontrol

import (
	"math"
	"sync/atomic"
)

// golden is 2^64 divided by the golden ratio, made odd.
const golden = 0x9E3779B97F4A7C15

// A sampler admits an exact fraction of the calls. It is a Weyl sequence: the
// counter steps by golden, and a call is admitted when the counter is below
// fraction*2^64. One atomic add, no clock and no random numbers, so it is
// repeatable; the golden step is the least regular one that there is, so a
// periodic pattern of calls (heavy, light, heavy, light) does not fall into
// step with it, which error diffusion would, admitting one kind only.
//
// Each stripe has a sequence of its own. They differ in where they begin, and
// each is unbiased, so all of them together are.
type sampler struct {
	_       [64]byte
	cut     atomic.Uint64 // fraction * 2^64; unused at 1
	bits    atomic.Uint64 // the fraction as float64
	engaged atomic.Bool   // fraction < 1
	_       [40]byte
}

// set stores the fraction f, which lies in 0..1.
func (s *sampler) set(f float64) {
	if f >= 1 {
		s.engaged.Store(false)
		s.bits.Store(math.Float64bits(1))
		return
	}
	s.cut.Store(uint64(math.Ldexp(f, 64)))
	s.bits.Store(math.Float64bits(f))
	s.engaged.Store(true)
}

func (s *sampler) fraction() float64 { return math.Float64frombits(s.bits.Load()) }

// admit draws once. It must be called only while the fraction is below 1.
func (s *sampler) admit(from *stripe) bool { return from.draws.Add(golden) < s.cut.Load() }
