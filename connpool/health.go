package connpool

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// healthGrace is how many checks in a row must fail before a connection is
// ejected. Servers report NOT_SERVING for a moment while they finish work.
const healthGrace = 2

type healthState struct {
	next     time.Time
	running  bool
	unserved bool   // the server has no grpc.health.v1
	inbound  uint64 // signs of life at the last check
	fails    int
	sick     bool         // ejected for silence: to be replaced
	took     atomic.Int64 // the round trip of the last check that was answered
}

type verdict uint8

const (
	verdictNone    verdict = iota // it could not be asked
	verdictServing                // or alive, where health is not served
	verdictRefuses                // it answered, and does not serve
	verdictSilent                 // no answer in time
)

type healthResult struct {
	slot     *slot
	verdict  verdict
	unserved bool
	took     time.Duration // 0: no answer
}

func (p *Pool) nextCheck(now time.Time) time.Time {
	if p.cfg.HealthCheckInterval < 0 {
		return time.Time{}
	}
	return now.Add(p.cfg.HealthCheckInterval*4/5 + jitter(p.cfg.HealthCheckInterval*2/5))
}

// checkHealth asks each connection, at its own time. One that carries answers
// to calls and has no health service is not asked: it lives.
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
			select {
			case p.checked <- r:
			case <-p.ctx.Done():
			}
		})
	}
}

// check asks one connection whether its server serves. It takes a stream of the
// connection as any call does; where none is free it asks nothing, for a full
// connection is no sick one.
func (p *Pool) check(s *slot) healthResult {
	r := healthResult{slot: s}
	if w := s.wire.count(); s.running() >= int(s.limit.Load()) || w.waiting > 0 {
		return r
	}
	began := time.Now()
	r.verdict, r.unserved = p.ask(s)
	if r.verdict == verdictServing || r.verdict == verdictRefuses {
		r.took = time.Since(began)
	}
	return r
}

// prove is check for a connection that is not in use yet.
func (p *Pool) prove(s *slot) error {
	switch v, _ := p.ask(s); v {
	case verdictRefuses:
		return errors.New("the server is connected, and says that it is not serving")
	case verdictSilent:
		return errors.New("the server is connected, and does not answer health checks")
	default:
		return nil
	}
}

func (p *Pool) ask(s *slot) (v verdict, unserved bool) {
	timeout := min(p.cfg.ConnectionTimeout, p.cfg.HealthCheckInterval)
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	reply, err := healthpb.NewHealthClient(s.cc).Check(ctx, &healthpb.HealthCheckRequest{Service: p.cfg.HealthService}, grpc.WaitForReady(false))
	switch code := status.Code(err); {
	case err == nil && reply.GetStatus() == healthpb.HealthCheckResponse_SERVING:
		return verdictServing, false
	case err == nil, code == codes.NotFound:
		return verdictRefuses, false
	case code == codes.Unimplemented:
		return verdictServing, true
	case code == codes.DeadlineExceeded && s.wire.count().waiting == 0:
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
			p.cfg.Logger.Info("connection is healthy again", "endpoint", p.target, "id", s.id)
			if s.lane.waiting.Load() > 0 {
				s.lane.grant()
			}
		}
	case verdictRefuses, verdictSilent:
		h.fails++
		if h.fails < healthGrace {
			h.next = now.Add(min(p.cfg.HealthCheckInterval, time.Second/2+jitter(time.Second)))
			return
		}
		if !s.has(flagEjected) {
			s.word.Or(flagEjected)
			p.counters.ejections.Add(1)
			p.cfg.Logger.Warn("connection ejected", "endpoint", p.target, "id", s.id, "silent", r.verdict == verdictSilent, "streams", s.running())
		}
		h.sick = r.verdict == verdictSilent
	case verdictNone:
	}
}
