package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors"
)

// A control is one way to protect a server.
type control struct {
	Kind  string
	Limit int64 // in flight, of the fixed ones; 0 in two stages: twice the slots
	// Activation and Recovery are the control plane's thresholds; 0: the defaults.
	Activation, Recovery float64
}

const (
	unprotected  = "none"
	semaphored   = "x/sync semaphore"
	failsafed    = "failsafe-go adaptive"
	sluiced      = "sluice adaptive"
	sluicedFixed = "sluice fixed"
)

func (c control) String() string {
	switch {
	case c.Limit > 0:
		return fmt.Sprint(c.Kind, " ", c.Limit)
	case c.Activation > 0:
		return fmt.Sprintf("%s, %g/%g", c.Kind, c.Activation, c.Recovery)
	}
	return c.Kind
}

// oneStage are the controls of the rows with one server. 16 is twice the slots, and
// right for them; 128 is wrong.
var oneStage = []control{
	{Kind: unprotected},
	{Kind: semaphored, Limit: 16},
	{Kind: semaphored, Limit: 128},
	{Kind: failsafed},
	{Kind: sluiced},
	{Kind: sluicedFixed, Limit: 128},
}

// twoStages are those of the rows with two: the limits are twice each stage's
// slots, and ours are tried with the default thresholds and with higher ones.
var twoStages = []control{
	{Kind: unprotected},
	{Kind: semaphored},
	{Kind: failsafed},
	{Kind: sluiced},
	{Kind: sluicedFixed},
	{Kind: sluicedFixed, Activation: 0.9, Recovery: 0.72},
}

// ours reports whether the control is this library's.
func (c control) ours() bool { return c.Kind == sluiced || c.Kind == sluicedFixed }

// tenantKey carries the name of the client.
const tenantKey = "client"

// A guard is a control at work.
type guard struct {
	options []grpc.ServerOption
	gate    *flowcontrol.Throttler // of ours
	limit   func() int64
}

func newGuard(c control, slots int) (guard, error) {
	if c.Limit == 0 {
		c.Limit = int64(2 * slots)
	}
	fixed := func() int64 { return c.Limit }
	switch c.Kind {
	case unprotected:
		return guard{limit: func() int64 { return 0 }}, nil
	case semaphored:
		s := semaphore.NewWeighted(c.Limit)
		return guard{limit: fixed, options: intercept(func() (func(error), bool) {
			return func(error) { s.Release(1) }, s.TryAcquire(1)
		})}, nil
	case failsafed:
		l := adaptivelimiter.NewWithDefaults[any]()
		return guard{limit: func() int64 { return int64(l.Limit()) }, options: intercept(func() (func(error), bool) {
			permit, ok := l.TryAcquirePermit()
			return func(err error) {
				if err != nil {
					permit.Drop()
					return
				}
				permit.Record()
			}, ok
		})}, nil
	case sluiced:
		return newSluice(flowcontrol.Config{
			Adaptive: flowcontrol.AdaptiveConfig{Mode: flowcontrol.AdaptiveOn},
			MaxKeys:  64,
		})
	case sluicedFixed:
		return newSluice(flowcontrol.Config{Limit: flowcontrol.Cost{Messages: c.Limit}, MaxKeys: 64})
	}
	return guard{}, fmt.Errorf("no control %q", c.Kind)
}

// newSluice is what our documentation recommends: the interceptors as server
// options, a gate, and fair shares by tenant.
func newSluice(cfg flowcontrol.Config) (guard, error) {
	gate, err := flowcontrol.New(cfg)
	if err != nil {
		return guard{}, err
	}
	server, err := interceptors.NewServer(interceptors.ServerConfig{
		Throttler: gate,
		Tenant: func(ctx context.Context, _ string) string {
			if names := metadata.ValueFromIncomingContext(ctx, tenantKey); len(names) > 0 {
				return names[0]
			}
			return ""
		},
	})
	if err != nil {
		return guard{}, err
	}
	return guard{options: server.ServerOptions(), gate: gate, limit: func() int64 { return gate.Limit().Messages }}, nil
}

var errFull = status.Error(codes.Unavailable, "full")

// intercept rejects a call where acquire does, and says how the others ended.
func intercept(acquire func() (release func(error), ok bool)) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(
			func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
				release, ok := acquire()
				if !ok {
					return nil, errFull
				}
				err = errors.New("panic")
				defer func() { release(err) }()
				resp, err = next(ctx, req)
				return resp, err
			},
		),
	}
}
