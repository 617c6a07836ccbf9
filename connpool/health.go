package connpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	// healthGrace is how many checks in a row must fail before a connection is
	// ejected. Servers report NOT_SERVING for a moment while they finish work.
	healthGrace = 2
	// ejectedCheck is the mean time between two checks of an ejected connection,
	// unless HealthCheckInterval is shorter: calls may be waiting for its return.
	ejectedCheck = 5 * time.Second
)

var (
	errNotServing = errors.New("the server is connected, and says that it is not serving")
	errSilent     = errors.New("the server is connected, and does not answer health checks")
)

type healthState struct {
	next     time.Time
	running  bool
	unserved bool         // the server has no grpc.health.v1
	inbound  uint64       // bytes from the server at the last check
	fails    int          // in a row
	heard    uint64       // bytes from the server before the first of them
	sick     bool         // ejected for silence: to be replaced
	took     atomic.Int64 // the round trip of the last check that was answered
}

type verdict uint8

const (
	verdictNone       verdict = iota // it could not be asked
	verdictServing                   // or alive, where health is not served
	verdictNotServing                // it answered, and does not serve
	verdictSilent                    // no answer in time
)

type healthResult struct {
	slot     *slot
	verdict  verdict
	unserved bool
	heard    uint64        // bytes from the server before the check
	took     time.Duration // 0: no answer
}

func (p *Pool) nextCheck(now time.Time) time.Time {
	if p.cfg.HealthCheckInterval < 0 {
		return time.Time{}
	}
	return now.Add(around(p.cfg.HealthCheckInterval))
}

// around varies d by a fifth.
func around(d time.Duration) time.Duration { return d*4/5 + jitter(d*2/5) }

// checkHealth asks each connection, at its own time. One from which bytes come
// and that has no health service is not asked: it lives.
func (p *Pool) checkHealth(now time.Time, soonest func(time.Time)) {
	for _, s := range p.slots {
		h := &s.health
		if h.next.IsZero() || h.running || s.has(flagDraining|flagDown) {
			continue
		}
		if now.Before(h.next) {
			soonest(h.next)
			continue
		}
		inbound := s.wire.inbound.Load()
		quiet := inbound == h.inbound && s.running() > 0
		h.inbound = inbound
		if h.unserved && !quiet && h.fails == 0 {
			h.next = p.nextCheck(now)
			soonest(h.next)
			continue
		}
		h.running = true
		p.wg.Go(func() {
			r := p.check(s)
			p.post(func() { p.onChecked(r) })
		})
	}
}

// check asks one connection whether its server serves. It takes a stream of the
// connection as any call does; where none is free it asks nothing, for a full
// connection is no sick one.
func (p *Pool) check(s *slot) healthResult {
	r := healthResult{slot: s, heard: s.wire.inbound.Load()}
	if s.running() >= int(s.limit.Load()) {
		return r
	}
	began := time.Now()
	r.verdict, r.unserved = p.ask(s)
	if r.verdict == verdictServing || r.verdict == verdictNotServing {
		r.took = time.Since(began)
	}
	return r
}

// prove is check for a connection that is not in use yet.
func (p *Pool) prove(s *slot) error {
	switch v, _ := p.ask(s); v {
	case verdictNotServing:
		return errNotServing
	case verdictSilent:
		return errSilent
	default:
		return nil
	}
}

func (p *Pool) ask(s *slot) (v verdict, unserved bool) {
	timeout := min(p.cfg.ConnectionTimeout, p.cfg.HealthCheckInterval)
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	c := &call{Context: ctx} // so that the wire tells whether it got a stream
	request := &healthpb.HealthCheckRequest{Service: p.cfg.HealthService}
	reply, err := healthpb.NewHealthClient(s.cc).Check(c, request, grpc.WaitForReady(false))
	switch code := status.Code(err); {
	case err == nil && reply.GetStatus() == healthpb.HealthCheckResponse_SERVING:
		return verdictServing, false
	case err == nil, code == codes.NotFound:
		return verdictNotServing, false
	case code == codes.Unimplemented:
		return verdictServing, true
	case code == codes.DeadlineExceeded && c.phase.Load() == phaseSent:
		return verdictSilent, false
	}
	return verdictNone, false
}

// onChecked ejects a connection after its grace, and takes it back.
func (p *Pool) onChecked(r healthResult) {
	s, now := r.slot, time.Now()
	h := &s.health
	h.running, h.next = false, p.nextCheck(now)
	h.unserved = h.unserved || r.unserved
	if r.took > 0 {
		h.took.Store(int64(r.took))
	}
	switch r.verdict {
	case verdictServing:
		h.fails, h.sick = 0, false
		if s.has(flagEjected) {
			s.word.And(^flagEjected)
			s.lane.failure.Store(nil)
			p.cfg.Logger.Info("connection is healthy again", "endpoint", p.target, "id", s.id)
			if s.lane.waiting.Load() > 0 {
				s.lane.grant()
			}
		}
	case verdictNotServing, verdictSilent:
		if h.fails == 0 {
			h.heard = r.heard
		}
		if h.fails++; h.fails < healthGrace {
			h.next = now.Add(min(p.cfg.HealthCheckInterval, time.Second/2+jitter(time.Second)))
			return
		}
		h.next = now.Add(around(min(p.cfg.HealthCheckInterval, ejectedCheck)))
		h.sick = r.verdict == verdictSilent
		p.eject(s)
	case verdictNone:
	}
}

// eject takes a connection out of rotation. Its streams go on, unless not one
// byte has come from the server while it let the checks time out: then nothing
// will come any more, and the streams end now, with UNAVAILABLE, rather than when
// keepalive or the kernel finds out. Closing its transport has gRPC make a new one.
func (p *Pool) eject(s *slot) {
	h := &s.health
	if !s.has(flagEjected) {
		s.word.Or(flagEjected)
		p.counters.ejections.Add(1)
		p.cfg.Logger.Warn("connection ejected",
			"endpoint", p.target, "id", s.id, "silent", h.sick, "streams", s.running())
	}
	cause := errNotServing
	if h.sick {
		cause = errSilent
	}
	if l := s.lane; !l.reachable() {
		l.failure.Store(&failure{err: cause, next: h.next})
		l.rejectWaiting(ReasonUnreachable)
	}
	if h.sick && s.wire.inbound.Load() == h.heard {
		silence := fmt.Errorf("connpool: %s: %w, and has sent nothing since", p.target, errSilent)
		p.wg.Go(func() { s.wire.end(silence) }) // TLS says goodbye, which may block
	}
}

// ejected reports whether health checks are why a lane has no healthy connection.
func (l *lane) ejected() bool {
	return !l.reachable() && slices.ContainsFunc(*l.slots.Load(), func(s *slot) bool { return s.has(flagEjected) })
}
