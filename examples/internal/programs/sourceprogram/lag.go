package sourceprogram

import (
	"context"
	"math"
	"time"

	"github.com/withobsrvr/sluice/examples/internal/component"
	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
)

// lookInterval is how often a source looks for its latest ledger, so that the lag
// is known also while no stream does.
const lookInterval = 10 * time.Second

// watchLag exports how far the served ledgers are behind the latest one. A source
// that does not grow has no lag. NaN is unknown: nothing was served, or the source
// has not been reached.
func watchLag(c *component.Component, src ledgers.Source, server *source.Server) {
	growing, ok := src.(interface{ Latest() uint32 })
	if !ok {
		return
	}
	c.Gauge("stellar_ledgers_latest", "The latest ledger that the source has.",
		func() float64 { return float64(growing.Latest()) })
	c.Gauge("stellar_ledgers_lag", "Ledgers between the last one that was served and the latest.", func() float64 {
		return lagInLedgers(server.Counters(), growing.Latest())
	})
	c.Gauge("stellar_ledgers_lag_seconds", "Time since the last ledger that was served closed.", func() float64 {
		return lagInSeconds(server.Counters(), time.Now())
	})
	c.Go(func(ctx context.Context) {
		for look := time.NewTicker(lookInterval); ; {
			select {
			case <-look.C:
				_, _ = src.Bounds(ctx) // it takes note of the latest; an error is that of the streams, too
			case <-ctx.Done():
				look.Stop()
				return
			}
		}
	})
}

func lagInLedgers(st source.Status, latest uint32) float64 {
	if st.LastLedger == 0 || latest == 0 {
		return math.NaN()
	}
	return max(float64(latest)-float64(st.LastLedger), 0)
}

func lagInSeconds(st source.Status, now time.Time) float64 {
	if st.LastClosed == 0 {
		return math.NaN()
	}
	return max(now.Sub(time.Unix(st.LastClosed, 0)).Seconds(), 0)
}
