package connpool

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Each state machine has a naive model here that says the same in the plainest
// way, and random operations on both. A failure names its seed and its step.

// modelSlot is a slot without its word.
type modelSlot struct {
	running, uses, limit    int
	away, draining, retired bool
}

func (m *modelSlot) acquire() bool {
	if m.away || m.draining || m.running >= m.limit {
		return false
	}
	m.running++
	m.uses++
	return true
}

func (m *modelSlot) release() {
	m.running--
	m.retired = m.retired || m.draining && m.running == 0
}

func (m *modelSlot) drain() bool {
	if m.draining {
		return false
	}
	m.draining = true
	m.retired = m.running == 0
	return true
}

func (m *modelSlot) undrain() bool {
	if !m.draining || m.retired {
		return false
	}
	m.draining = false
	return true
}

func TestSlotFollowsItsModel(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := idlePool(RoundRobin, 1, 3)
		s, m := (*l.slots.Load())[0], &modelSlot{limit: 3}
		for step := range 200 {
			switch random.IntN(8) {
			case 0, 1, 2:
				require.Equal(t, m.acquire(), s.tryAcquire(), "seed %d, step %d", seed, step)
			case 3, 4:
				if m.running > 0 {
					m.release()
					s.release()
				}
			case 5:
				require.Equal(t, m.drain(), s.drain(), "seed %d, step %d", seed, step)
			case 6:
				require.Equal(t, m.undrain(), s.undrain(), "seed %d, step %d", seed, step)
			case 7:
				if m.limit = random.IntN(5); m.limit%2 == 0 {
					m.away = true
					s.word.Or(flagEjected)
				} else {
					m.away = false
					s.word.And(^flagEjected)
				}
				s.setLimit(m.limit)
			}
			is := modelSlot{
				s.running(), int(s.uses()), int(s.limit.Load()),
				s.has(flagEjected), s.has(flagDraining), s.has(flagClosed),
			}
			require.Equal(t, *m, is, "seed %d, step %d", seed, step)
			require.Equal(t, !m.away && !m.draining && m.running < m.limit, s.load() != noRoom)
		}
	}
}

// modelBreaker is a breaker without a lock, a log or a snapshot.
type modelBreaker struct {
	failures, probes int // wanted
	openFor          time.Duration

	state      breakerState
	fails, oks int
	probing    bool
	until      time.Time
}

// enter reports whether a call passes, and as a probe.
func (m *modelBreaker) enter(now time.Time) (pass, probe bool) {
	if m.state == breakerClosed {
		return true, false
	}
	if (m.state == breakerOpen || m.probing) && now.Before(m.until) {
		return false, false
	}
	if m.state == breakerOpen {
		m.state, m.oks = breakerHalfOpen, 0
	}
	m.probing, m.until = true, now.Add(m.openFor)
	return true, true
}

func (m *modelBreaker) done(now time.Time, failed, says, probe bool) {
	if probe {
		m.probing = false
	}
	switch {
	case !says:
	case failed && probe, failed && m.state == breakerClosed && m.fails+1 >= m.failures:
		m.state, m.fails, m.oks, m.probing, m.until = breakerOpen, 0, 0, false, now.Add(m.openFor)
	case failed && m.state == breakerClosed:
		m.fails++
	case !failed && probe && m.oks+1 >= m.probes:
		m.state, m.fails, m.oks, m.probing = breakerClosed, 0, 0, false
	case !failed && probe:
		m.oks++
	case !failed && m.state == breakerClosed:
		m.fails = 0
	}
}

func TestBreakerFollowsItsModel(t *testing.T) {
	outcomes := []struct {
		err          error
		failed, says bool
	}{
		{nil, false, true},
		{status.Error(codes.Unavailable, "down"), true, true},
		{status.Error(codes.NotFound, "answered"), false, true},
		{status.Error(codes.Canceled, "the caller left"), false, false},
		{errMoved, false, false},
		{errors.New("no status"), false, true},
	}
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(200) {
			random := rand.New(rand.NewPCG(seed, 2))
			cfg := Breaker{
				Failures: 1 + random.IntN(3), Probes: 1 + random.IntN(2), OpenFor: 4 * time.Second, IsFailure: isUnavailable,
			}
			b := newBreaker(cfg, slog.New(slog.DiscardHandler))
			m := &modelBreaker{failures: cfg.Failures, probes: cfg.Probes, openFor: cfg.OpenFor}
			var calls []bool // those that run: whether they probe
			for step := range 200 {
				if random.IntN(2) == 0 {
					probe, wait := b.enter()
					pass, wantProbe := m.enter(time.Now())
					require.Equal(t, pass, wait == 0, "seed %d, step %d", seed, step)
					require.Equal(t, wantProbe, probe, "seed %d, step %d", seed, step)
					if pass {
						calls = append(calls, probe)
					}
				} else if len(calls) > 0 {
					i, o := random.IntN(len(calls)), outcomes[random.IntN(len(outcomes))]
					b.done(o.err, calls[i])
					m.done(time.Now(), o.failed, o.says, calls[i])
					calls = append(calls[:i], calls[i+1:]...)
				}
				require.Equal(t, m.state, b.state, "seed %d, step %d", seed, step)
				time.Sleep(time.Duration(random.IntN(3)) * time.Second)
			}
		}
	})
}

// modelFrames reads whole frames from all the bytes at once.
func modelFrames(b []byte) (s seen) {
	for len(b) >= frameHeaderSize {
		size := int(binary.BigEndian.Uint32(append([]byte{0}, b[:3]...)))
		kind, flags := b[3], b[4]
		if kind == frameGoAway {
			s.goAways++ // the header is enough
		}
		b = b[frameHeaderSize:]
		if len(b) < size {
			return s
		}
		if kind == frameSettings && flags&flagAck == 0 {
			limit := uint32(math.MaxUint32)
			for p := b[:size]; len(p) >= settingSize; p = p[settingSize:] {
				if binary.BigEndian.Uint16(p) == settingStreams {
					limit = binary.BigEndian.Uint32(p[2:])
				}
			}
			s.settings = append(s.settings, limit)
		}
		b = b[size:]
	}
	return s
}
