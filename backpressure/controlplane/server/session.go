package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
	"github.com/withobsrvr/sluice/topology"
)

// coordinationService is Sluice's own service: one stream for each agent.
type coordinationService struct {
	sluicepb.UnimplementedCoordinationServer
	server *Server
}

// A beat is a sign of life and what came with it, decoded, whichever service it came
// through.
type beat struct {
	id      string
	session *session // that it came through; nil: a stock heartbeat
	health  topology.Health
	time    time.Time // zero: now
	loaded  bool      // it has a report; false: as before
	report  backpressure.Report
	metrics map[string]float64 // join those that are known
	edges   []topology.Edge    // empty: as before
}

// A session is one Coordinate stream: its handler receives, and one goroutine
// sends. It costs an idle agent 2 KiB of stack more than sending from whichever
// goroutine has something to say, and needs no rule about which of them does.
//
// The component's entry points to its session: a second stream, or a new
// registration, ends the first, because two agents under one id would report
// over one another.
//
// What is to be sent is looked up when it is sent, and never queued: a stream that
// does not read holds one signal, and when it reads again gets the newest. A slow
// agent holds up no other, and ten thousand of them no memory.
type session struct {
	server *Server
	stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down]
	id     string
	quiet  time.Duration // a sign of life is due after so long
	// controller is that of the component's pipeline, set before anything is sent.
	controller *backpressure.Controller
	wake       chan struct{} // of size 1: there may be something to send

	mu      sync.Mutex // guards what follows, never held while sending
	started bool       // the first beat has come
	sent    backpressure.Signal
	goodbye *sluicepb.Goodbye // the last thing to send; nil: the session goes on
}

var errClosing = status.Error(codes.Unavailable, "controlplane: the control plane is closing")

func newSession(
	s *Server, stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down], id string, heartbeat time.Duration,
) *session {
	return &session{
		server: s, stream: stream, id: id, quiet: quietFor(heartbeat),
		wake: make(chan struct{}, 1), sent: backpressure.Signal{Fraction: -1}, // differs from every signal
	}
}

// quietFor is how long an agent may receive nothing: two of its heartbeats less
// a second, of which it waits for three. gRPC's keepalive would find a dead connection
// as well, and not a server that is stopped: its kernel still answers.
func quietFor(heartbeat time.Duration) time.Duration {
	return max(2*heartbeat-time.Second, heartbeat)
}

// end says good-bye. No later beat of the session counts. replaced asks the agent not
// to come back, because another process speaks for its component.
func (o *session) end(replaced bool) {
	o.mu.Lock()
	if o.goodbye == nil {
		o.goodbye = &sluicepb.Goodbye{Replaced: replaced}
	}
	o.mu.Unlock()
	o.notify()
}

// notify wakes the sender. It never blocks.
func (o *session) notify() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *session) lastSent() backpressure.Signal {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sent
}

// start lets signals out. Before the first beat, which carries the fraction that
// the component works at, there is nothing to say: a server that has just
// started would say 1.
func (o *session) start() {
	o.mu.Lock()
	o.started = true
	o.mu.Unlock()
	o.notify()
}

// next is what there is to send: a good-bye, a signal that differs from the last
// one, or nil.
func (o *session) next() *sluicepb.Down {
	signal := o.controller.SignalFor(o.id)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.goodbye != nil {
		return &sluicepb.Down{Message: &sluicepb.Down_Goodbye{Goodbye: o.goodbye}}
	}
	if !o.started || !worthSending(o.sent, signal) {
		return nil
	}
	o.sent = signal
	return &sluicepb.Down{Message: &sluicepb.Down_Signal{Signal: &sluicepb.Signal{
		Fraction: signal.Fraction,
		Load:     signal.Load,
		Active:   signal.Active,
		Reason:   signal.Reason,
		Time:     timestamppb.New(signal.Time),
		Cause:    signal.ServiceID,
	}}}
}

// sendUntil sends until done closes, the stream breaks, or good-bye was said. An
// agent that receives nothing for three heartbeats takes the control plane for
// lost: an empty message is the sign of life.
func (o *session) sendUntil(done <-chan struct{}) {
	quiet := time.NewTimer(o.quiet)
	defer quiet.Stop()
	for {
		down := &sluicepb.Down{}
		select {
		case <-done:
			return
		case <-quiet.C:
		case <-o.wake:
			if down = o.next(); down == nil {
				continue
			}
		}
		if o.stream.Send(down) != nil || down.GetGoodbye() != nil {
			return
		}
		quiet.Reset(o.quiet)
	}
}

// worthSending: a fiftieth of the fraction, or an end of the range. The policy moves
// the fraction with every report; ten thousand agents need not know each step of it,
// and what they miss stays below two percent of what they admit.
func worthSending(sent, now backpressure.Signal) bool {
	if now.Active != sent.Active || (now.Fraction == 1) != (sent.Fraction == 1) {
		return true
	}
	return math.Abs(now.Fraction-sent.Fraction) >= 0.02*sent.Fraction
}

// Coordinate serves one agent: Hello and Welcome, then beats up and signals down
// until either end leaves. The component must be registered: a stream of an
// unknown one ends with NOT_FOUND, and its agent registers again. A beat that is
// rejected ends the stream, because an agent of ours sends none; its next try
// backs off.
func (c coordinationService) Coordinate(stream grpc.BidiStreamingServer[sluicepb.Up, sluicepb.Down]) error {
	s := c.server
	first, err := stream.Recv()
	if err != nil {
		s.undecoded(err)
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return s.count(reject(Invalid, "the first message is not a Hello"))
	}
	id := hello.GetServiceId()
	if err := s.mayFor(stream.Context(), id); err != nil {
		return s.count(err)
	}
	heartbeat := min(time.Duration(hello.GetHeartbeatMillis())*time.Millisecond, maxHeartbeat)
	own := newSession(s, stream, id, cmp.Or(heartbeat, controlplane.DefaultHeartbeatInterval))
	pipeline, err := s.registry.join(own, hello.GetIncarnation(), heartbeat, hello.GetUpstreams())
	if err != nil {
		return s.count(err)
	}
	defer s.registry.leave(own)
	p := s.pipeline(pipeline)
	own.controller = p.controller
	p.add(own)
	defer p.remove(own)
	if s.closing.Err() != nil { // Close may have looked for sessions before this one joined
		return errClosing
	}
	if err := stream.Send(&sluicepb.Down{Message: &sluicepb.Down_Welcome{Welcome: &sluicepb.Welcome{
		ReportMillis: uint32(s.cfg.ReportInterval.Milliseconds()),
		LoadStep:     s.cfg.LoadStep,
	}}}); err != nil {
		return err
	}
	done, sent := make(chan struct{}), make(chan struct{})
	go func() { defer close(sent); own.sendUntil(done) }()
	defer func() { close(done); <-sent }() // a Send under way ends with the connection
	for {
		if err := own.receive(); err != nil {
			return endOf(err)
		}
	}
}

// receive takes one beat, and starts the signals with the first.
func (o *session) receive() error {
	up, err := o.stream.Recv()
	if err != nil {
		o.server.undecoded(err)
		return err
	}
	if o.server.closing.Err() != nil {
		return errClosing
	}
	b, err := o.decode(up)
	if err != nil {
		return o.server.count(err)
	}
	if err := o.server.take(&b); err != nil {
		return err
	}
	o.mu.Lock()
	started := o.started
	o.mu.Unlock()
	if !started {
		o.start()
	}
	return nil
}

// decode reads a message after the first. What it says is judged by the registry; only
// a list that is too long is not even read.
func (o *session) decode(up *sluicepb.Up) (beat, error) {
	in := up.GetBeat()
	if in == nil {
		return beat{}, reject(Invalid, "a message after the first is not a Beat")
	}
	if n, most := len(in.GetEdges()), o.server.cfg.Limits.Edges; n > most {
		return beat{}, reject(TooMany, "%d edges, at most %d are kept of a component", n, most)
	}
	b := beat{id: o.id, session: o, time: convert.Time(in.GetTime()), metrics: in.GetMetrics()}
	if load := in.GetLoad(); load != nil {
		b.loaded, b.report = true, convert.ReportFromLoad(o.id, load)
	}
	for _, edge := range in.GetEdges() {
		b.edges = append(b.edges, convert.EdgeFromWire(o.id, edge))
	}
	return b, nil
}

// endOf is the status of a stream that ended for cause: OK where the agent went.
func endOf(cause error) error {
	if errors.Is(cause, io.EOF) || errors.Is(cause, context.Canceled) {
		return nil
	}
	return cause
}

// spacing is the least time between two waves of signals of a pipeline: the first change of
// a decision goes out at once, later ones are gathered. Ten thousand agents
// that all report would otherwise wake ten thousand streams for every report.
const spacing = 50 * time.Millisecond

// wakeSessions turns changes of a pipeline's decision into waves of signals. It takes
// the channel first and reads the state after it, so that no change is missed. Each
// session then looks for itself whether its own signal changed.
func (s *Server) wakeSessions(ctx context.Context, p *pipeline) {
	var sent []backpressure.PathState
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := p.controller.Changed()
		if now := p.controller.Paths(); moved(sent, now) {
			sent = now
			p.wake()
			timer.Reset(spacing)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// moved says whether any path differs by what an agent would be sent. Paths are
// compared by their places: when they are found anew, one wave too many is cheap.
func moved(sent, now []backpressure.PathState) bool {
	if len(sent) != len(now) {
		return true
	}
	for i := range now {
		if now[i].Name != sent[i].Name || now[i].Services != sent[i].Services || worthSending(
			backpressure.Signal{Fraction: sent[i].Fraction, Active: sent[i].Active},
			backpressure.Signal{Fraction: now[i].Fraction, Active: now[i].Active}) {
			return true
		}
	}
	return false
}
