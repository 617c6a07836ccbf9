package flowcontrol

import "math"

// golden is 2^64 divided by the golden ratio, made odd.
const golden = 0x9E3779B97F4A7C15

// leastFraction is the smallest fraction above zero that is told from zero.
// What is smaller is the residue of floating-point arithmetic.
const leastFraction = 1e-9

// A sampler admits an exact fraction of the calls. It is a Weyl sequence: the
// counter steps by golden, and a call is admitted when the counter is below
// fraction*2^64. It needs no clock and no random numbers, so it is repeatable;
// the golden step is the least regular one that there is, so a periodic pattern
// of calls (heavy, light, heavy, light) does not fall into step with it, which
// error diffusion would, admitting one kind only.
type sampler struct {
	fraction float64
	cut      uint64 // fraction * 2^64; unused at 1
	state    uint64
}

// set takes the fraction f, which lies in 0..1.
func (s *sampler) set(f float64) {
	s.fraction = f
	if f < 1 {
		s.cut = uint64(math.Ldexp(f, 64))
	}
}

// open reports whether everything is admitted.
func (s *sampler) open() bool { return s.fraction >= 1 }

// admit draws once. It must be called only while the fraction is below 1.
func (s *sampler) admit() bool {
	s.state += golden
	return s.state < s.cut
}
