package controlplane

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// attend registers and serves one connection to the control plane, until it
// breaks or ctx ends.
func (a *Agent) attend(ctx context.Context) error {
	stock, err := a.register(ctx)
	if err != nil {
		return err
	}
	a.hear()
	err = a.coordinate(ctx)
	if status.Code(err) == codes.Unimplemented {
		return a.poll(ctx, stock)
	}
	return err
}

// A dialect is one of the two stock services: how the agent beats there.
type dialect struct {
	beat func(ctx context.Context, id string, metrics map[string]float64) error
	list func(ctx context.Context) ([]backpressure.Report, error)
}

// register announces the component, by the newer service where there is one:
// against deployed control planes load is visible only through it.
func (a *Agent) register(ctx context.Context) (dialect, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.CallTimeout)
	defer cancel()
	component := a.cfg.Component.toV1(a.cfg.HeartbeatInterval)
	ack, err := flowctlv1pb.Client{Conn: a.conn}.RegisterComponent(ctx,
		&flowctlv1pb.RegisterRequest{Component: component, ComponentId: a.cfg.Component.ID}, grpc.WaitForReady(true))
	id, use := ack.GetServiceId(), a.newer()
	if status.Code(err) == codes.Unimplemented {
		var old *flowctlpb.RegistrationAck
		old, err = flowctlpb.Client{Conn: a.conn}.Register(ctx, &flowctlpb.ServiceInfo{
			ServiceId:        a.cfg.Component.ID,
			ServiceType:      roleToFlowctl(a.cfg.Component.Role),
			InputEventTypes:  a.cfg.Component.InputEventTypes,
			OutputEventTypes: a.cfg.Component.OutputEventTypes,
			HealthEndpoint:   a.cfg.Component.HealthEndpoint,
			MaxInflight:      int32(min(a.cfg.Component.MaxInFlight, math.MaxInt32)),
			Metadata:         component.Metadata,
			ComponentId:      a.cfg.Component.ID,
		})
		id, use = old.GetServiceId(), a.older()
	}
	if err != nil {
		return dialect{}, err
	}
	if id == "" {
		id = a.cfg.Component.ID
	}
	a.mu.Lock()
	a.id = id
	a.mu.Unlock()
	a.log.Info("registered", "service_id", id)
	return use, nil
}

// leave says good-bye, so that the load leaves the pipeline's at once.
func (a *Agent) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(a.cfg.CallTimeout, 2*time.Second))
	defer cancel()
	_, err := flowctlv1pb.Client{Conn: a.conn}.UnregisterComponent(ctx, &flowctlv1pb.UnregisterRequest{ServiceId: a.serviceID()})
	if err != nil {
		a.log.Debug("not unregistered", "error", err)
	}
}

// coordinate serves Sluice's own stream: load up, signals down.
func (a *Agent) coordinate(ctx context.Context) error {
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := sluicepb.NewCoordinationClient(a.conn).Coordinate(ctx)
	if err != nil {
		return err
	}
	id := a.serviceID()
	if err := stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Hello{Hello: &sluicepb.Hello{
		ServiceId:       id,
		HeartbeatMillis: uint32(a.cfg.HeartbeatInterval.Milliseconds()),
		Upstreams:       a.cfg.Component.Upstreams,
	}}}); err != nil {
		_, err = stream.Recv() // the reason
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	reporter := reporter{agent: a, stream: stream, every: DefaultReportInterval, step: DefaultLoadStep}
	if w := first.GetWelcome(); w != nil {
		reporter.every = max(time.Duration(w.GetReportMillis())*time.Millisecond, 10*time.Millisecond)
		if s := w.GetLoadStep(); s > 0 && s <= 1 {
			reporter.step = s
		}
	}
	// The first report carries the fraction in force, before the control plane
	// has said anything: it may have just restarted.
	if err := reporter.look(true); err != nil {
		return err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		reporter.run(ctx)
	}()
	defer func() { cancel(); <-sent }()
	// The control plane speaks once in two heartbeats. One that does not may be gone
	// without a trace, as behind a firewall that forgot the connection.
	silence := 3 * a.cfg.HeartbeatInterval
	silent := time.AfterFunc(silence, cancel)
	defer silent.Stop()
	for {
		down, err := stream.Recv()
		if err != nil {
			if ctx.Err() != nil && parent.Err() == nil {
				return errSilent
			}
			return err
		}
		silent.Reset(silence)
		a.hear()
		if bye := down.GetGoodbye(); bye != nil {
			if bye.GetReplaced() {
				return errReplaced
			}
			return errClosing
		}
		if s := down.GetSignal(); s != nil && s.GetFraction() >= 0 && s.GetFraction() <= 1 {
			a.mode.Store(uint32(Coordinated))
			a.follow(backpressure.Signal{
				ServiceID: s.GetCause(),
				Load:      s.GetLoad(),
				Fraction:  s.GetFraction(),
				Active:    s.GetActive(),
				Time:      timeOf(s.GetTime()),
				Reason:    s.GetReason(),
			})
		}
	}
}

var errSilent = errors.New("controlplane: the control plane has been silent for three heartbeats")

// reporter sends what changed, and a small beat when nothing does.
type reporter struct {
	agent  *Agent
	stream grpc.BidiStreamingClient[sluicepb.Up, sluicepb.Down]
	every  time.Duration
	step   float64

	last     backpressure.Report
	lastLoad float64
	lastSent time.Time // any beat
	lastFull time.Time // a beat with metrics
	metrics  map[string]float64
	edges    []Edge
	edgesAt  time.Time
}

func (r *reporter) run(ctx context.Context) {
	ticker := time.NewTicker(r.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-r.agent.nudge:
		}
		if err := r.look(false); err != nil {
			return // the receiving side learns why
		}
	}
}

// look sends a beat if one is due: at once when the load has moved by a step,
// once an interval when anything has changed, else once a heartbeat.
func (r *reporter) look(force bool) error {
	now := time.Now()
	report := r.agent.report()
	load := report.Load
	if report.MaxInFlight > 0 {
		load = max(load, float64(report.InFlight)/float64(report.MaxInFlight))
	}
	changed := differ(report, r.last)
	// A fraction that has just been followed is no news to who decided it, and
	// all agents telling it at once would slow the signal to those that still wait.
	news := changed
	if r.agent.Mode() == Coordinated && !force {
		rest := report
		rest.Fraction = r.last.Fraction
		news = differ(rest, r.last)
	}
	full := force || now.Sub(r.lastFull) >= r.agent.cfg.HeartbeatInterval
	moved := math.Abs(load-r.lastLoad) >= r.step
	due := news && now.Sub(r.lastSent) >= r.agent.local.Config().Interval
	if !full && !moved && !due {
		return nil
	}
	beat := &sluicepb.Beat{Time: timestamppb.New(now)}
	if changed || force {
		beat.Load = &sluicepb.Load{
			InFlight:     report.InFlight,
			MaxInFlight:  report.MaxInFlight,
			Load:         report.Load,
			QueueDepth:   report.QueueDepth,
			Throughput:   report.Throughput,
			LatencyNanos: int64(report.Latency),
			ErrorRate:    report.ErrorRate,
			Fraction:     report.Fraction,
		}
		r.last, r.lastLoad = report, load
	}
	if full {
		beat.Metrics = r.freshMetrics(report)
		r.lastFull = now
	}
	if edges := r.freshEdges(now, full); len(edges) > 0 {
		beat.Edges = edgesTo(edges)
	}
	r.lastSent = now
	return r.stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Beat{Beat: beat}})
}

// freshMetrics returns the metrics that changed since they were last sent.
func (r *reporter) freshMetrics(report backpressure.Report) map[string]float64 {
	now := metricsOf(report, report.Fraction, r.agent.Signal().Active)
	if r.agent.cfg.Metrics != nil {
		maps.Copy(now, r.agent.cfg.Metrics())
	}
	fresh := map[string]float64{}
	for key, v := range now {
		if old, ok := r.metrics[key]; !ok || old != v {
			fresh[key] = v
		}
	}
	r.metrics = now
	return fresh
}

// freshEdges returns the edges when their shape changed, their figures moved and
// the last ones are an interval old, or their figures changed at all and a full
// beat is due.
func (r *reporter) freshEdges(at time.Time, full bool) []Edge {
	if r.agent.cfg.Edges == nil {
		return nil
	}
	now := r.agent.cfg.Edges()
	same := len(now) == len(r.edges)
	equal, moved := same, false
	for i := 0; same && i < len(now); i++ {
		a, b := now[i], r.edges[i]
		same = a.Upstream == b.Upstream && a.Endpoint == b.Endpoint && a.Connected == b.Connected && a.Reconnects == b.Reconnects
		equal = equal && a == b
		moved = moved || a.moved(&b)
	}
	moved = moved && at.Sub(r.edgesAt) >= r.agent.local.Config().Interval
	if same && (equal || !full && !moved) {
		return nil
	}
	r.edges, r.edgesAt = now, at
	return now
}

// differ says whether two reports differ in anything that is sent.
func differ(a, b backpressure.Report) bool {
	return a.InFlight != b.InFlight || a.MaxInFlight != b.MaxInFlight || a.Load != b.Load ||
		a.QueueDepth != b.QueueDepth || a.Throughput != b.Throughput || a.Latency != b.Latency ||
		a.ErrorRate != b.ErrorRate || a.Fraction != b.Fraction
}

// forgotten says whether the control plane does not know the component any
// more. Deployed servers answer with code UNKNOWN and this text.
func forgotten(err error) bool {
	return status.Code(err) == codes.NotFound ||
		status.Code(err) == codes.Unknown && strings.Contains(err.Error(), "service ID not found")
}

// Why the agent had to reach for the control plane again: a closed set, fit for
// a metric's label.
const (
	reconnectUnreachable = iota
	reconnectForgotten
	reconnectReplaced
	reconnectRefused
	reconnectClosed
	reconnectReasons
)

var reconnectNames = [reconnectReasons]string{"unreachable", "forgotten", "replaced", "refused", "closed"}

func reconnectReason(err error) int {
	switch {
	case err == nil:
		return reconnectClosed
	case forgotten(err):
		return reconnectForgotten
	case status.Code(err) == codes.Aborted:
		return reconnectReplaced
	case status.Code(err) == codes.Unavailable, errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded), status.Code(err) == codes.DeadlineExceeded:
		return reconnectUnreachable
	default:
		return reconnectRefused
	}
}
