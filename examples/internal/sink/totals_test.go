package sink

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTotalsAreExact(t *testing.T) {
	totals, err := newTotals(nil, nil)
	require.NoError(t, err)
	v := totals.at("transfer", "native")
	for _, amount := range []string{"9223372036854775807", "9223372036854775807", "-1", "170141183460469231731687303715884105727", "0"} {
		require.NoError(t, v.add(amount))
	}
	require.Error(t, v.add("1.5"))
	require.Equal(t, "170141183460469231750134047789593657340", v.amount())
	saved := totals.snapshot()
	again, err := newTotals(saved, map[string]int64{"transfer": 5})
	require.NoError(t, err)
	require.Equal(t, saved, again.snapshot())
	require.Equal(t, int64(5), again.events)
	_, err = newTotals([]Total{{Amount: "x"}}, nil)
	require.Error(t, err)
	require.Equal(
		t,
		int64(math.MaxInt64),
		func() int64 { w := &totalValue{}; _ = w.add("9223372036854775807"); return w.small }(),
	)
}

// Anybody can issue assets: their number must not be that of our memory.
func TestTotalsAreBounded(t *testing.T) {
	totals, err := newTotals(nil, nil)
	require.NoError(t, err)
	for i := range 3 * maxTotals {
		totals.at("transfer", string(rune('a'+i%26))+string(rune('A'+i/26%26))+string(rune('0'+i/676))).events++
	}
	require.LessOrEqual(t, len(totals.byKey), maxTotals+1)
	var other Total
	sum := int64(0)
	for _, row := range totals.snapshot() {
		sum += row.Events
		if row.Asset == OtherAssets {
			other = row
		}
	}
	require.Equal(t, int64(3*maxTotals), sum, "everything is counted")
	require.Positive(t, other.Events)
	require.Empty(t, other.Amount)
}
