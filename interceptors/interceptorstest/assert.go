package interceptorstest

import (
	"testing"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// A Governor is an interceptors.Server or an interceptors.Client.
type Governor interface{ Stats() interceptors.Stats }

// Idle fails the test unless nothing is open and nothing is in flight.
func Idle(t testing.TB, g Governor) {
	t.Helper()
	s := g.Stats()
	if s.ActiveCalls != 0 || s.ActiveStreams != 0 || s.InFlight != (flowcontrol.Cost{}) {
		t.Errorf("not idle: %d calls, %d streams, %v in flight", s.ActiveCalls, s.ActiveStreams, s.InFlight)
	}
	for _, c := range s.Classes {
		if c.Active != 0 || c.Started != c.Completed+c.Failed+c.Cancelled {
			t.Errorf("class %v: %d started, %d completed, %d failed, %d cancelled, %d active",
				c.Class, c.Started, c.Completed, c.Failed, c.Cancelled, c.Active)
		}
	}
}

// Empty fails the test unless the throttler holds nothing.
func Empty(t testing.TB, gate *flowcontrol.Throttler) {
	t.Helper()
	if in := gate.InFlight(); in != (flowcontrol.Cost{}) {
		t.Errorf("the throttler still holds %v", in)
	}
}

// Rows fails the test unless a class received and sent exactly so many rows.
func Rows(t testing.TB, g Governor, class interceptors.Class, received, sent int64) {
	t.Helper()
	c := g.Stats().Class(class)
	if c.Received.Rows != received || c.Sent.Rows != sent {
		t.Errorf("class %v: %d rows received, %d sent; want %d and %d", class, c.Received.Rows, c.Sent.Rows, received, sent)
	}
}

// Rejected fails the test unless so many rejections had the reason.
func Rejected(t testing.TB, g Governor, reason interceptors.Reason, want int64) {
	t.Helper()
	if got := g.Stats().Rejected(reason); got != want {
		t.Errorf("%d rejections for %s, want %d", got, reason, want)
	}
}
