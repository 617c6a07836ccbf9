package processor

import (
	"context"
	"errors"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// newShare returns the gate of one stream before the gate of the stage. It
// waits like the stage, and one batch always fits.
func (s *Server) newShare() (*flowcontrol.Throttler, error) {
	limit := s.stage.Limit()
	part := func(n int64) int64 {
		if n <= 0 {
			return n
		}
		return max(int64(math.Ceil(float64(n)*s.cfg.StreamShare)), 1)
	}
	return flowcontrol.New(flowcontrol.Config{
		Name:     "ttp-arrow-processor/stream",
		Limit:    flowcontrol.Cost{Messages: part(limit.Messages), Rows: part(limit.Rows), Bytes: part(limit.Bytes)},
		Queue:    flowcontrol.QueueConfig{InOrder: true},
		Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOff},
	})
}

// A permit is what a job holds of its stream's share and of the stage.
type permit struct{ share, stage flowcontrol.Permit }

// Release gives both back. It may be called more than once.
func (p *permit) Release(o flowcontrol.Outcome) {
	p.stage.Release(o)
	p.share.Release(o)
}

var (
	errReaderStalled = status.Error(codes.Unavailable, "the stream ended because its reader took nothing for too long")
	errSourceStalled = status.Error(codes.Unavailable, "the source sent nothing for too long")
)

// A watch ends a stream that makes no progress. It runs only while the other
// side is waited for, not while the stage is. One goroutine uses it.
type watch struct {
	timer   *time.Timer
	timeout time.Duration
}

// watching returns a watch that ends a stream by cancel. It does not run yet.
func watching(timeout time.Duration, cancel context.CancelCauseFunc, why error) *watch {
	if timeout < 0 {
		timeout = math.MaxInt64
	}
	w := &watch{timer: time.AfterFunc(timeout, func() { cancel(why) }), timeout: timeout}
	w.timer.Stop()
	return w
}

func (w *watch) start() { w.timer.Reset(w.timeout) }
func (w *watch) stop()  { w.timer.Stop() }

// stalled is why ctx ended when a watch ended it, and err otherwise.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errReaderStalled) || errors.Is(cause, errSourceStalled) {
		return cause
	}
	return err
}
