package backpressure

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each report is made of one number, so that a mixture of two would show.
func TestWhatIsReadOfAServiceIsOneReport(t *testing.T) {
	c, err := New(Config{MaxInFlight: -1, Policy: Step{}})
	require.NoError(t, err)
	defer c.Close()
	const services, rounds = 4, 2000
	var running, reading sync.WaitGroup
	for i := range services {
		id := fmt.Sprint("service", i)
		running.Go(func() {
			for n := range int64(rounds) {
				if n%500 == 499 {
					c.RemoveService(id)
					continue
				}
				if err := c.Report(Report{
					ServiceID: id, InFlight: n, MaxInFlight: 2 * rounds, QueueDepth: n, Throughput: float64(n),
					Latency: time.Duration(n), Time: c.base.Add(time.Duration(n)),
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				snap := c.Snapshot()
				for _, s := range snap.Services {
					n := s.InFlight
					if s.QueueDepth != n || s.Throughput != float64(n) || int64(s.Latency) != n || s.Load != float64(n)/(2*rounds) ||
						s.Time.Sub(c.base) != time.Duration(n) {
						t.Errorf("mixed: %+v", s)
						return
					}
				}
				for _, p := range snap.Paths {
					if p.Active != (p.Fraction < 1) || p.Active != !p.Since.IsZero() {
						t.Errorf("mixed: %+v", p)
						return
					}
				}
			}
		})
	}
	running.Wait()
	close(done)
	reading.Wait()
	snap := c.Snapshot()
	require.Len(t, snap.Services, 0, "each of them has just left")
	require.Zero(t, snap.InFlight)
	require.Zero(t, snap.Paths[0].AggregateLoad)
}

// A change between the making of a subscription and its place on the list
// used to be missed.
func TestNoChangeIsMissedWhileSubscribing(t *testing.T) {
	c, err := New(Config{Policy: Step{}, Tick: -1})
	require.NoError(t, err)
	for i := range 5000 {
		inFlight, want := int64(90), 0.5
		if i%2 == 1 {
			inFlight, want = 10, 1
		}
		var running sync.WaitGroup
		running.Go(func() { _ = c.Report(Report{ServiceID: "sink", InFlight: inFlight, MaxInFlight: 100}) })
		s := c.Subscribe()
		running.Wait()
		require.Equal(t, want, (<-s.C()).Fraction)
		s.Close()
	}
}
