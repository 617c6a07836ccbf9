package convert

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/backpressure/controlplane"
)

func TestErrorRateIsThatOfTheLastHeartbeat(t *testing.T) {
	metrics := func(errors, events float64) map[string]float64 {
		return map[string]float64{controlplane.MetricErrors: errors, controlplane.MetricEvents: events}
	}
	for name, c := range map[string]struct {
		before, after map[string]float64
		want          float64
		known         bool
	}{
		"first":                       {nil, metrics(50, 100), 0.5, true},
		"since then":                  {metrics(50, 100), metrics(60, 200), 0.1, true},
		"nothing new":                 {metrics(50, 100), metrics(50, 100), 0, false},
		"no counters":                 {nil, nil, 0, false},
		"restarted":                   {metrics(50, 100), metrics(1, 4), 0.25, true},
		"failed ones are not counted": {nil, metrics(5, 0), 1, true},
		"nonsense":                    {nil, metrics(-5, 10), 0, true},
	} {
		got, known := ErrorRate(c.before, c.after)
		require.InDelta(t, c.want, got, 1e-9, name)
		require.Equal(t, c.known, known, name)
	}
}
