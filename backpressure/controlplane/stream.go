package controlplane

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// coordinationService is Sluice's own service: one stream each agent.
type coordinationService struct {
	sluicepb.UnimplementedCoordinationServer
	server *Server
}

// A session is one Coordinate stream. The component's entry points to it, so
// that a second stream, or a new registration, ends the first: two agents under
// one id would otherwise report over one another.
type session struct {
	cancel context.CancelCauseFunc
}

var (
	errReplaced = errors.New("controlplane: another agent registered under this id")
	errClosing  = errors.New("controlplane: the control plane is closing")
)

func (s *session) replaced() { s.cancel(errReplaced) }

func (c coordinationService) Coordinate(stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down]) error {
	s := c.server
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return s.refuse(refuse(Invalid, "the first message is not a Hello"))
	}
	id := hello.GetServiceId()
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	stop := context.AfterFunc(s.closing, func() { cancel(errClosing) })
	defer stop()
	own := &session{cancel: cancel}
	if refusal := s.mayFor(stream.Context(), id); refusal != nil {
		return s.refuse(refusal)
	}
	heartbeat := min(time.Duration(hello.GetHeartbeatMillis())*time.Millisecond, maxHeartbeat)
	if refusal := s.registry.join(id, own, heartbeat, hello.GetUpstreams()); refusal != nil {
		return s.refuse(refusal)
	}
	defer s.registry.leave(id, own)

	if err := stream.Send(&sluicepb.Down{Message: &sluicepb.Down_Welcome{Welcome: &sluicepb.Welcome{
		ReportMillis: uint32(s.cfg.ReportInterval.Milliseconds()),
		LoadStep:     s.cfg.LoadStep,
	}}}); err != nil {
		return err
	}
	// The first beat carries the fraction that the component works at. Before it
	// there is nothing to say: a server that has just started would say 1.
	if err := s.receiveOne(stream, id); err != nil {
		return endOf(err)
	}
	// Recv is what notices the agent's end. It runs beside the sending, and ends
	// with the stream, which ends when this function returns.
	go func() { cancel(s.receive(stream, id)) }()
	return s.sendSignals(ctx, stream, id, cmp.Or(heartbeat, DefaultHeartbeatInterval))
}

// receive takes the agent's beats until the stream ends.
func (s *Server) receive(stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down], id string) error {
	for {
		if err := s.receiveOne(stream, id); err != nil {
			return err
		}
	}
}

func (s *Server) receiveOne(stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down], id string) error {
	up, err := stream.Recv()
	if err != nil {
		return err
	}
	beat := up.GetBeat()
	if beat == nil {
		return s.refuse(refuse(Invalid, "a message after the first is not a Beat"))
	}
	if n := len(beat.GetEdges()); n > s.cfg.Limits.Edges {
		return s.refuse(refuse(TooMany, "%d edges, at most %d are kept of a component", n, s.cfg.Limits.Edges))
	}
	edges := edgesFrom(beat.GetEdges())
	if refusal := s.cfg.Limits.checkEdges(edges); refusal != nil {
		return s.refuse(refusal)
	}
	if err := s.beat(stream.Context(), id, HealthUnknown, beat.GetMetrics(), func(e *entry) backpressure.Report {
		return reportFromBeat(e, beat)
	}); err != nil {
		return err
	}
	if len(edges) > 0 {
		if refusal := s.registry.observe(id, edges); refusal != nil {
			return s.refuse(refusal)
		}
		s.graph.changed()
	}
	return nil
}

// sendSignals sends the newest decision for id whenever it changes, and an
// empty message when there was nothing to say for a heartbeat: an agent that
// hears nothing takes the control plane for lost.
func (s *Server) sendSignals(ctx context.Context, stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down], id string, quiet time.Duration) error {
	pulse := time.NewTicker(quiet)
	defer pulse.Stop()
	sent := backpressure.Signal{Fraction: -1}
	for {
		changed := s.nextChange()
		signal := s.controller.SignalFor(id)
		if worthSending(sent, signal) {
			sent = signal
			if err := stream.Send(signalDown(signal)); err != nil {
				return err
			}
			pulse.Reset(quiet)
		}
		select {
		case <-ctx.Done():
			return endOf(context.Cause(ctx))
		case <-changed:
		case <-pulse.C:
			if err := stream.Send(&sluicepb.Down{}); err != nil {
				return err
			}
		}
	}
}

func signalDown(signal backpressure.Signal) *sluicepb.Down {
	return &sluicepb.Down{Message: &sluicepb.Down_Signal{Signal: &sluicepb.Signal{
		Fraction: signal.Fraction,
		Load:     signal.Load,
		Active:   signal.Active,
		Reason:   signal.Reason,
		Time:     timestamppb.New(signal.Time),
		Cause:    signal.ServiceID,
	}}}
}

// worthSending: a fiftieth of the fraction, or an end of the range.
func worthSending(sent, now backpressure.Signal) bool {
	if now.Active != sent.Active || (now.Fraction == 1) != (sent.Fraction == 1) {
		return true
	}
	return math.Abs(now.Fraction-sent.Fraction) >= 0.02*sent.Fraction
}

// spacing is the least time between two waves of signals: the first change of
// a decision goes out at once, what follows is gathered. Ten thousand agents
// that all report would otherwise wake ten thousand streams for every report.
const spacing = 50 * time.Millisecond

// watch turns changes of the decision into waves of signals.
func (s *Server) watch() {
	var sent []backpressure.PathState
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := s.controller.Changed()
		if now := s.controller.Paths(); moved(sent, now) {
			sent = now
			s.movedMu.Lock()
			close(s.moved)
			s.moved = make(chan struct{})
			s.movedMu.Unlock()
			timer.Reset(spacing)
			select {
			case <-s.closing.Done():
				return
			case <-timer.C:
			}
		}
		select {
		case <-s.closing.Done():
			return
		case <-changed:
		}
	}
}

func moved(sent, now []backpressure.PathState) bool {
	if len(sent) != len(now) {
		return true
	}
	for i := range now {
		if now[i].Name != sent[i].Name || now[i].Services != sent[i].Services ||
			worthSending(backpressure.Signal{Fraction: sent[i].Fraction, Active: sent[i].Active}, backpressure.Signal{Fraction: now[i].Fraction, Active: now[i].Active}) {
			return true
		}
	}
	return false
}

func (s *Server) nextChange() <-chan struct{} {
	s.movedMu.Lock()
	defer s.movedMu.Unlock()
	return s.moved
}

// endOf is the status of a stream that ended for cause.
func endOf(cause error) error {
	switch {
	case cause == nil, errors.Is(cause, io.EOF), errors.Is(cause, context.Canceled):
		return nil
	case errors.Is(cause, errReplaced):
		return status.Error(codes.Aborted, cause.Error())
	case errors.Is(cause, errClosing):
		return status.Error(codes.Unavailable, cause.Error())
	default:
		return cause
	}
}

func reportFromBeat(e *entry, beat *sluicepb.Beat) backpressure.Report {
	load := beat.GetLoad()
	if load == nil {
		report := e.Report // as before
		report.Time = timeOf(beat.GetTime())
		return report
	}
	report := backpressure.Report{
		ServiceID:   e.ID,
		InFlight:    load.GetInFlight(),
		MaxInFlight: load.GetMaxInFlight(),
		Load:        load.GetLoad(),
		QueueDepth:  load.GetQueueDepth(),
		Throughput:  load.GetThroughput(),
		Latency:     time.Duration(load.GetLatencyNanos()),
		ErrorRate:   load.GetErrorRate(),
		Fraction:    load.GetFraction(),
		Time:        timeOf(beat.GetTime()),
	}
	return report
}

func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// join makes own the stream that speaks for id.
func (r *registry) join(id string, own *session, heartbeat time.Duration, upstreams []string) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return notRegistered(id)
	}
	changed := e.Component
	if len(upstreams) > 0 {
		changed.Upstreams = upstreams
	}
	if err := r.limits.checkComponent(&changed); err != nil {
		return err
	}
	if e.session != nil {
		e.session.replaced()
	}
	e.Component = changed
	e.session = own
	e.heartbeat = heartbeat
	e.LastHeartbeat = time.Now()
	return nil
}

// leave ends own's speaking for id, if no other stream has taken over.
func (r *registry) leave(id string, own *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[id]; e != nil && e.session == own {
		e.session = nil
	}
}
