package connpool

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whatever a server writes, the pause is never negative, and what is not a
// number of milliseconds is never tried again.
func FuzzPushback(f *testing.F) {
	for _, s := range []string{"", "0", "100", "-1", "9223372036854775807", "1e3", " 5", "+7"} {
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, twice bool) {
		values := []string{s}
		if twice {
			values = append(values, s)
		}
		pause, given, again := wishOf(values)
		require.True(t, given)
		require.GreaterOrEqual(t, pause, time.Duration(0))
		require.False(t, twice && again)
		if !again {
			require.Zero(t, pause)
		}
	})
}

func TestPushback(t *testing.T) {
	for s, want := range map[string]time.Duration{"0": 0, "1500": 1500 * time.Millisecond} {
		pause, given, again := wishOf([]string{s})
		require.True(t, given && again)
		require.Equal(t, want, pause)
	}
	_, given, again := wishOf(nil)
	require.True(t, again && !given)
	for _, s := range []string{"", "-1", "soon", "9223372036854775807"} {
		_, _, again := wishOf([]string{s})
		require.False(t, again, s)
	}
}
