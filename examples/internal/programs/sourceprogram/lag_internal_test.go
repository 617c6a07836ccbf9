package sourceprogram

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/source"
)

func TestLag(t *testing.T) {
	now := time.Unix(1000, 0)
	require.True(t, math.IsNaN(lagInLedgers(source.Status{}, 9)), "nothing was served")
	require.True(t, math.IsNaN(lagInLedgers(source.Status{LastLedger: 9}, 0)), "the source was not reached")
	require.True(t, math.IsNaN(lagInSeconds(source.Status{}, now)))
	require.Equal(t, 2.0, lagInLedgers(source.Status{LastLedger: 7}, 9))
	require.Zero(t, lagInLedgers(source.Status{LastLedger: 10}, 9), "served before it was looked for")
	require.Equal(t, 5.0, lagInSeconds(source.Status{LastClosed: 995}, now))
	require.Zero(t, lagInSeconds(source.Status{LastClosed: 1001}, now), "clocks differ")
}
