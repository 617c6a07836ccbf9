package rate_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/internal/rate"
)

// TestRatesAgree: however often it is asked, a meter of a steady counter shows
// its rate, and nothing five to six seconds after the end.
func TestRatesAgree(t *testing.T) {
	for _, every := range []time.Duration{
		50 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 15 * time.Second,
	} {
		var m rate.Meter
		began := time.Now()
		got := 0.0
		for at := time.Duration(0); at <= time.Minute; at += every {
			got = m.Update(began.Add(at), 800*at.Seconds())
		}
		require.InDelta(t, 800, got, 1e-6, every)
		total := 800 * time.Minute.Seconds()
		for at := time.Minute; at <= time.Minute+rate.Window+time.Second+every; at += every {
			got = m.Update(began.Add(at), total)
		}
		require.Zero(t, got, every)
	}
}

func TestAResetIsNoRate(t *testing.T) {
	var m rate.Meter
	now := time.Now()
	m.Update(now, 1000)
	require.Equal(t, 100.0, m.Update(now.Add(time.Second), 1100))
	require.Equal(t, 100.0, m.Update(now.Add(2*time.Second), 5), "not negative, and not 0")
	require.Equal(t, 50.0, m.Update(now.Add(3*time.Second), 55))
}

// TestAnyTimes: rates are never negative and never beyond the fastest growth.
func TestAnyTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var m rate.Meter
	now, total := time.Now(), 0.0
	for range 10000 {
		passed := time.Duration(r.ExpFloat64() * float64(time.Second))
		now, total = now.Add(passed), total+10*passed.Seconds()*r.Float64()
		got := m.Update(now, total)
		require.GreaterOrEqual(t, got, 0.0)
		require.LessOrEqual(t, got, 10.0001)
	}
}
