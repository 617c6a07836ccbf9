package connpool

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// dialing is the one dial in flight.
type dialing struct {
	lane    *lane
	slot    *slot
	replace *slot // drained once its successor is ready; may be nil
	reason  openReason
}

// dialOptions are the pool's own options, and then the user's.
func dialOptions(cfg Config) []grpc.DialOption {
	serviceConfig, _ := withBalancer(cfg.ServiceConfig) // validate has checked it
	opts := []grpc.DialOption{
		grpc.WithIdleTimeout(0), // the pool decides what is idle
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: baseBackoff, Multiplier: backoffFactor, Jitter: backoffJitter, MaxDelay: maxBackoff,
			},
			MinConnectTimeout: cfg.ConnectionTimeout,
		}),
	}
	if cfg.MaxRetries < 0 {
		opts = append(opts, grpc.WithDisableRetry())
	} else {
		opts = append(opts, grpc.WithMaxCallAttempts(max(2, cfg.MaxRetries+1)))
	}
	if cfg.Keepalive > 0 {
		opts = append(opts, grpc.WithKeepaliveParams(
			keepalive.ClientParameters{Time: cfg.Keepalive, Timeout: keepaliveTimeout}))
	}
	return append(opts, cfg.DialOptions...)
}

func transportCredentials(cfg Config) credentials.TransportCredentials {
	if cfg.TLS == nil {
		return cfg.Credentials
	}
	t := cfg.TLS.Clone()
	if t.ClientSessionCache == nil {
		t.ClientSessionCache = tls.NewLRUClientSessionCache(2 * cfg.MaxConnections)
	}
	return credentials.NewTLS(t)
}

// startDial opens one connection beside the worker. While connections are
// ejected, a new one has to prove that its server serves.
func (p *Pool) startDial(d dialing) {
	prove := slices.ContainsFunc(p.slots, func(s *slot) bool { return s.has(flagEjected) })
	s := &slot{lane: d.lane, id: p.freeID()}
	d.slot = s
	p.dialing = &d
	p.wg.Go(func() {
		err := p.dial(s, prove)
		p.post(func() { p.onDialed(err) })
	})
}

// freeID is the smallest that no slot has: labels made of IDs stay bounded.
func (p *Pool) freeID() int {
	for id := 0; ; id++ {
		if !slices.ContainsFunc(p.slots, func(s *slot) bool { return s.id == id }) {
			return id
		}
	}
}

// dial connects s, within the connection timeout.
func (p *Pool) dial(s *slot, prove bool) error {
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	s.wire.slot, s.wire.assumed = s, assumedStreams
	own := []grpc.DialOption{
		grpc.WithStatsHandler(&s.wire), grpc.WithTransportCredentials(watchedCredentials{p.creds.Clone(), &s.wire}),
	}
	cc, err := grpc.NewClient(p.target, append(p.dialOpt[:len(p.dialOpt):len(p.dialOpt)], own...)...)
	if err != nil {
		s.cancel()
		return err
	}
	s.cc = cc
	err = p.connect(s.ctx, cc)
	if err == nil && prove {
		err = p.prove(s)
	}
	if err != nil {
		s.cancel()
		_ = cc.Close()
		return err
	}
	s.created = time.Now()
	if p.cfg.MaxAge > 0 { // fixed here: drawn at each look, it would come early
		s.expires = s.created.Add(p.cfg.MaxAge - jitter(p.cfg.MaxAge/10))
	}
	return nil
}

// connect waits until cc is ready, or fails with the reason.
func (p *Pool) connect(ctx context.Context, cc *grpc.ClientConn) error {
	bounded, cancel := context.WithTimeout(ctx, p.cfg.ConnectionTimeout)
	defer cancel()
	cc.Connect()
	for {
		st := cc.GetState()
		switch st {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure:
			return p.cause(ctx, cc)
		case connectivity.Shutdown:
			return errors.New("the dialed connection is closed")
		case connectivity.Idle:
			cc.Connect()
		}
		if !cc.WaitForStateChange(bounded, st) {
			return fmt.Errorf("no connection within %v: %w", p.cfg.ConnectionTimeout, bounded.Err())
		}
	}
}

// cause asks a connection in transient failure why. gRPC says so only to a
// call, and a call that fails fast is answered without any network.
func (p *Pool) cause(ctx context.Context, cc *grpc.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, min(time.Second, p.cfg.ConnectionTimeout))
	defer cancel()
	_, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(false))
	if s, ok := status.FromError(err); ok && err != nil {
		return errors.New(s.Message())
	}
	return errors.New("the connection failed")
}

// onDialed publishes a new slot, or puts the next attempt off.
func (p *Pool) onDialed(err error) {
	d, now := p.dialing, time.Now()
	p.dialing = nil
	if d.replace != nil {
		d.replace.replacing = false
	}
	if err != nil {
		p.counters.dialFailures.Add(1)
		p.failed(err, now)
		return
	}
	s := d.slot
	p.failures = 0
	p.mu.Lock()
	p.retry = failure{}
	p.slots = append(slices.Clone(p.slots), s)
	p.mu.Unlock()
	for _, l := range p.lanes {
		l.failure.Store(nil)
	}
	s.wire.fit()
	s.idleSince = now
	s.health.next = p.nextCheck(now)
	p.counters.opened[d.reason].Add(1)
	p.cfg.Logger.Info("connection opened",
		"endpoint", p.target, "lane", s.lane.name, "id", s.id, "reason", d.reason.String())
	p.wg.Go(func() { p.watch(s) })
	if p.shutting {
		s.drain()
		return
	}
	s.lane.publish()
	if d.replace != nil {
		reason := closeAge
		if d.replace.health.sick {
			reason = closeUnhealthy
		}
		p.drain(d.replace, reason, now)
	}
}

// failed puts the next attempt off and rejects the calls that do not wait for a
// healthy connection. Slots that are open stay as they are.
func (p *Pool) failed(err error, now time.Time) {
	p.failures++
	pause := float64(baseBackoff)
	for i := 1; i < p.failures && pause < float64(maxBackoff); i++ {
		pause *= backoffFactor
	}
	pause = min(pause, float64(maxBackoff)) * (1 - backoffJitter + 2*backoffJitter*rand.Float64())
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		err = errors.New(err.Error()) // the dial's end, which must not pass for that of a caller's context
	}
	f := failure{err: err, next: now.Add(time.Duration(pause))}
	p.mu.Lock()
	p.retry = f
	p.mu.Unlock()
	p.cfg.Logger.Warn("cannot connect",
		"endpoint", p.target, "cause", err, "failures", p.failures, "next", time.Duration(pause))
	for _, l := range p.lanes {
		l.failure.Store(&f)
		if !l.reachable() {
			l.rejectWaiting(ReasonUnreachable)
		}
	}
}

// jitter draws from 0 to d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
