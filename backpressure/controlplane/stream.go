package controlplane

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// coordinationService is Sluice's own service: one stream each agent.
type coordinationService struct {
	sluicepb.UnimplementedCoordinationServer
	server *Server
}

// A session is one Coordinate stream. Its handler receives; what is sent goes
// through send, from whichever goroutine has something to say, so that an idle
// agent costs one goroutine of ours and not two. The component's entry points
// to it: a second stream, or a new registration, ends the first, because two
// agents under one id would report over one another.
type session struct {
	server *Server
	stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down]
	id     string
	quiet  time.Duration // a sign of life is due after so long
	letter letter        // the handler's
	entry  *entry        // set by join: what it speaks for, as long as that says so too

	ended  atomic.Bool // no more beats are taken
	due    atomic.Bool // there may be something to send
	busy   atomic.Bool // somebody sends
	spoken atomic.Int64

	// The signal that was sent last. They change while mu is held; who reads one
	// signal's fraction with another's activity looks again at the next change.
	toldFraction atomic.Uint64 // float64 bits
	toldActive   atomic.Bool

	mu   sync.Mutex // held while sending, and by the handler when it returns
	gone bool       // the handler has returned
}

var (
	errReplaced = status.Error(codes.Aborted, "controlplane: another agent registered under this id")
	errClosing  = status.Error(codes.Unavailable, "controlplane: the control plane is closing")
)

// replaced ends the session: no beat of it counts any more.
func (o *session) replaced() { o.end(true) }

func (o *session) end(replaced bool) {
	if !o.ended.Swap(true) {
		go o.write(&sluicepb.Down{Message: &sluicepb.Down_Goodbye{Goodbye: &sluicepb.Goodbye{Replaced: replaced}}})
	}
}

// news reports whether there is a decision worth sending.
func (o *session) news() bool {
	return worthSending(o.told(), o.server.controller.SignalFor(o.id))
}

// told is what the agent was sent last.
func (o *session) told() backpressure.Signal {
	return backpressure.Signal{Fraction: math.Float64frombits(o.toldFraction.Load()), Active: o.toldActive.Load()}
}

// tell sends the newest decision, if it is worth it. One goroutine tells at a
// time; who comes meanwhile leaves a note.
func (o *session) tell() {
	o.due.Store(true)
	for o.due.Load() && o.busy.CompareAndSwap(false, true) {
		for o.due.Swap(false) {
			if signal := o.server.controller.SignalFor(o.id); !o.ended.Load() && o.write(signalDown(signal)) != nil {
				o.ended.Store(true)
			}
		}
		o.busy.Store(false)
	}
}

// write sends one message. Signals that are not worth it are left out.
func (o *session) write(down *sluicepb.Down) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone {
		return io.EOF
	}
	if s := down.GetSignal(); s != nil {
		now := backpressure.Signal{Fraction: s.GetFraction(), Active: s.GetActive()}
		if !worthSending(o.told(), now) {
			return nil
		}
		o.toldFraction.Store(math.Float64bits(now.Fraction))
		o.toldActive.Store(now.Active)
	}
	o.spoken.Store(int64(time.Since(o.server.began)))
	return o.stream.Send(down)
}

func (c coordinationService) Coordinate(stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down]) error {
	s := c.server
	first, err := stream.Recv()
	if err != nil {
		s.undecoded(err)
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return s.refuse(refuse(Invalid, "the first message is not a Hello"))
	}
	id := hello.GetServiceId()
	if refusal := s.mayFor(stream.Context(), id); refusal != nil {
		return s.refuse(refusal)
	}
	heartbeat := min(time.Duration(hello.GetHeartbeatMillis())*time.Millisecond, maxHeartbeat)
	own := &session{server: s, stream: stream, id: id, quiet: quietFor(cmp.Or(heartbeat, DefaultHeartbeatInterval))}
	own.toldFraction.Store(math.Float64bits(-1)) // nothing yet
	if refusal := s.registry.join(id, own, heartbeat, hello.GetUpstreams()); refusal != nil {
		return s.refuse(refusal)
	}
	defer s.registry.leave(id, own)
	defer func() {
		own.mu.Lock() // a sending under way ends with the connection
		own.gone = true
		own.mu.Unlock()
	}()
	if err := own.write(&sluicepb.Down{Message: &sluicepb.Down_Welcome{Welcome: &sluicepb.Welcome{
		ReportMillis: uint32(s.cfg.ReportInterval.Milliseconds()),
		LoadStep:     s.cfg.LoadStep,
	}}}); err != nil {
		return err
	}
	// The first beat carries the fraction that the component works at. Before it
	// there is nothing to say: a server that has just started would say 1.
	if err := s.receiveOne(own); err != nil {
		return endOf(err)
	}
	if !s.addSession(own) {
		return errClosing
	}
	defer s.dropSession(own)
	go own.tell()
	for {
		if err := s.receiveOne(own); err != nil {
			return endOf(err)
		}
	}
}

func (s *Server) receiveOne(own *session) error {
	if err := own.stream.RecvMsg(&own.letter); err != nil {
		s.undecoded(err)
		return err
	}
	switch {
	case s.closing.Err() != nil:
		return errClosing
	case own.ended.Load():
		return errReplaced
	}
	return s.takeBeat(own.id, own, own.letter.bytes())
}

// takeBeat takes what own, the stream of id, has brought.
func (s *Server) takeBeat(id string, own *session, message []byte) error {
	plain := plainBeats.Get().(*plainBeat)
	defer plainBeats.Put(plain)
	if plain.read(message) {
		return s.take(id, own, HealthUnknown, plain.readings, plain.reportOf)
	}
	var up sluicepb.Up
	if err := proto.Unmarshal(message, &up); err != nil {
		return s.refuse(&Error{Reason: Invalid, What: "message", cause: err})
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
	if err := s.take(id, own, HealthUnknown, readingsOf(beat.GetMetrics()), func(e *entry) backpressure.Report {
		return reportFromBeat(e, beat)
	}); err != nil {
		return err
	}
	if len(edges) > 0 {
		if refusal := s.registry.observe(id, edges); refusal != nil {
			return s.refuse(refusal)
		}
		s.pictures.changed()
	}
	return nil
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
			s.tellAll()
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

// tellAll tells every session that there is news for.
func (s *Server) tellAll() {
	s.sendAll(func(own *session) bool {
		return own.busy.Load() || own.news()
	}, (*session).tell)
}

const pulseInterval = time.Second

// quietFor is how long an agent may hear nothing: with the pulse's own interval
// two of its heartbeats, of which it waits three.
func quietFor(heartbeat time.Duration) time.Duration {
	return max(2*heartbeat-pulseInterval, heartbeat)
}

// pulse sends an empty message to those who heard nothing for that long: an
// agent that hears nothing takes the control plane for lost.
func (s *Server) pulse() {
	ticker := time.NewTicker(pulseInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
		}
		now := time.Since(s.began)
		s.sendAll(func(own *session) bool {
			if now-time.Duration(own.spoken.Load()) < own.quiet {
				return false
			}
			own.spoken.Store(int64(now))
			return true
		}, func(own *session) { _ = own.write(&sluicepb.Down{}) })
	}
}

const (
	// atOnce is how many sessions are sent to at a time. Ten thousand goroutines
	// at once would need more memory than all that is kept of their agents.
	atOnce = 256
	// patience is how long the next ones wait for these. Who is not done by then
	// has a peer that does not read, and holds up nobody else.
	patience = 20 * time.Millisecond
)

// sendAll calls send for every session that wants it, each in a goroutine that
// lives as long as the sending.
func (s *Server) sendAll(want func(*session) bool, send func(*session)) {
	var chosen []*session
	s.sessionsMu.Lock()
	for own := range s.sessions {
		if want(own) {
			chosen = append(chosen, own)
		}
	}
	s.sessionsMu.Unlock()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for some := range slices.Chunk(chosen, atOnce) {
		done := make(chan struct{}, len(some)) // each fits, waited for or not
		for _, own := range some {
			go func() {
				send(own)
				done <- struct{}{}
			}()
		}
		timer.Reset(patience)
		for waiting := len(some); waiting > 0; waiting-- {
			select {
			case <-done:
				continue
			case <-s.closing.Done():
				return
			case <-timer.C:
			}
			break
		}
	}
}

func (s *Server) addSession(own *session) bool {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	if s.closing.Err() != nil {
		return false
	}
	s.sessions[own] = struct{}{}
	return true
}

func (s *Server) dropSession(own *session) {
	s.sessionsMu.Lock()
	defer s.sessionsMu.Unlock()
	delete(s.sessions, own)
}

// endOf is the status of a stream that ended for cause.
func endOf(cause error) error {
	switch {
	case cause == nil, errors.Is(cause, io.EOF), errors.Is(cause, context.Canceled):
		return nil
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
	e.session, own.entry = own, e
	e.heartbeat = heartbeat
	e.LastHeartbeat = time.Now()
	return nil
}

// leave ends own's speaking for id, if no other stream has taken over.
func (r *registry) leave(id string, own *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[id]; e != nil && e.session == own {
		e.session, e.left = nil, time.Now()
	}
}
