package flowcontroltest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/flowcontrol/flowcontroltest"
)

var one = flowcontrol.Cost{Messages: 1}

func TestThrottlerConforms(t *testing.T) {
	flowcontroltest.Run(t, flowcontroltest.Subject{
		HoldsInFlight: true,
		Full: func(n int64) flowcontroltest.Limiter {
			th, err := flowcontrol.New(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: n}})
			if err != nil {
				panic(err)
			}
			return th
		},
	})
}

func TestAdaptiveThrottlerConforms(t *testing.T) {
	flowcontroltest.Run(t, flowcontroltest.Subject{
		HoldsInFlight: true,
		Full: func(n int64) flowcontroltest.Limiter {
			th, err := flowcontrol.New(
				flowcontrol.Config{Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOn, Min: n, Max: n}},
			)
			if err != nil {
				panic(err)
			}
			return th
		},
	})
}

func TestFakesDoWhatTheirNamesSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := flowcontroltest.AlwaysAdmits{}.TryAcquire(cancelled, one)
		require.NoError(t, err)
		_, err = flowcontroltest.AlwaysAdmits{}.Acquire(cancelled, one)
		require.ErrorIs(t, err, context.Canceled)

		_, err = flowcontroltest.AlwaysRejects{RetryAfter: time.Second}.Acquire(t.Context(), one)
		require.ErrorIs(t, err, flowcontrol.ErrRejected)
		e, _ := errors.AsType[*flowcontrol.Error](err)
		require.Equal(t, flowcontrol.ReasonInFlight, e.Reason)
		require.Equal(t, time.Second, e.RetryAfter)
		_, err = flowcontroltest.AlwaysRejects{}.Acquire(cancelled, one)
		require.ErrorIs(t, err, context.Canceled)

		wrong := errors.New("wrong")
		s := flowcontroltest.Script(
			flowcontroltest.Step{Err: wrong},
			flowcontroltest.Step{Wait: time.Minute},
			flowcontroltest.Step{Wait: time.Minute},
		)
		r := flowcontroltest.Record(s)
		_, err = r.TryAcquire(flowcontrol.WithKey(t.Context(), "a"), one)
		require.ErrorIs(t, err, wrong)
		began := time.Now()
		_, err = r.Acquire(flowcontrol.WithPriority(t.Context(), flowcontrol.High), one)
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Since(began))
		require.Equal(t, 1, s.Left())
		_, err = r.Acquire(cancelled, one)
		require.ErrorIs(t, err, context.Canceled)
		_, err = r.TryAcquire(t.Context(), one)
		require.NoError(t, err, "after the script")
		require.NoError(t, r.Pace(t.Context(), one))
		r.Charge(t.Context(), one)
		require.Equal(t, []flowcontroltest.Call{
			{Verb: "TryAcquire", Cost: one, Key: "a", Err: wrong},
			{Verb: "Acquire", Cost: one, Priority: flowcontrol.High},
			{Verb: "Acquire", Cost: one, Err: context.Canceled},
			{Verb: "TryAcquire", Cost: one},
			{Verb: "Pace", Cost: one},
			{Verb: "Charge", Cost: one},
		}, r.Calls())
		_, err = flowcontroltest.Record(nil).TryAcquire(t.Context(), one)
		require.NoError(t, err)
	})
}

// The fakes have every verb of the Throttler, so that code under test may declare any of them.
func TestFakesHaveTheThrottlersVerbs(t *testing.T) {
	type verbs interface {
		flowcontroltest.Limiter
		Pace(context.Context, flowcontrol.Cost) error
		Charge(context.Context, flowcontrol.Cost)
	}
	throttler, err := flowcontrol.New(flowcontrol.Config{})
	require.NoError(t, err)
	for _, v := range []verbs{
		throttler,
		flowcontroltest.AlwaysAdmits{},
		flowcontroltest.AlwaysRejects{},
		flowcontroltest.Script(), flowcontroltest.Record(throttler),
	} {
		v.Charge(t.Context(), one)
		_, err := v.Acquire(t.Context(), one)
		require.Equal(t, v == verbs(flowcontroltest.AlwaysRejects{}), err != nil)
	}
}
