package limiters

import (
	"context"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
)

// Rate adapts golang.org/x/time/rate to flowcontrol's verbs. It is a pure rate
// limiter: nothing is held, so its permits release nothing.
type Rate struct{ Limiter *rate.Limiter }

// TryAcquire takes the tokens of c's messages, or says how long they take.
func (r Rate) TryAcquire(_ context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error) {
	now := time.Now()
	if r.Limiter.AllowN(now, int(c.Messages)) {
		return flowcontrol.Permit{}, nil
	}
	reservation := r.Limiter.ReserveN(now, int(c.Messages))
	defer reservation.CancelAt(now)
	after := flowcontrol.Never
	if reservation.OK() {
		after = reservation.DelayFrom(now)
	}
	return flowcontrol.Permit{}, &flowcontrol.Error{Reason: flowcontrol.ReasonRate, RetryAfter: after, Cost: c}
}

// Acquire waits for the tokens of c's messages.
func (r Rate) Acquire(ctx context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error) {
	if err := r.Limiter.WaitN(ctx, int(c.Messages)); err != nil {
		if ctx.Err() != nil {
			return flowcontrol.Permit{}, ctx.Err()
		}
		return flowcontrol.Permit{}, &flowcontrol.Error{Reason: flowcontrol.ReasonDeadline, Cost: c}
	}
	return flowcontrol.Permit{}, nil
}

func TestRateConforms(t *testing.T) {
	flowcontroltest.Run(t, flowcontroltest.Subject{
		Full: func(n int64) flowcontroltest.Limiter {
			return Rate{rate.NewLimiter(rate.Every(time.Hour), int(n))}
		},
		Open: func(l flowcontroltest.Limiter, _ flowcontrol.Permit) {
			l.(Rate).Limiter.SetBurst(2)
			l.(Rate).Limiter.SetLimit(rate.Inf)
		},
	})
}
