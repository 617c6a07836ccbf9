package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

var (
	errSilent   = errors.New("agent: the control plane has been silent for three heartbeats")
	errClosing  = status.Error(codes.Unavailable, "agent: the control plane is closing")
	errReplaced = status.Error(codes.Aborted, "agent: another agent registered under this id")
)

// serveOnce registers and serves one connection to the control plane, until it
// breaks or ctx ends. It returns why; a stock control plane is no error but another
// way to serve.
func (a *Agent) serveOnce(ctx context.Context) error {
	a.connect(ctx)
	stock, err := a.register(ctx)
	if err != nil {
		return err
	}
	a.touch()
	err = a.coordinate(ctx)
	if status.Code(err) == codes.Unimplemented {
		return a.poll(ctx, stock)
	}
	return err
}

// A channel is what a *grpc.ClientConn, and a pool that behaves like one, can be
// asked about its connection.
type channel interface {
	Connect()
	GetState() connectivity.State
	WaitForStateChange(ctx context.Context, from connectivity.State) bool
}

// connect waits until there is a connection. gRPC makes the attempts, with the
// agent's backoff: a second pause around them would let the agent sleep while
// its control plane is back.
func (a *Agent) connect(ctx context.Context) {
	conn, ok := a.conn.(channel)
	if !ok {
		return
	}
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready, connectivity.Shutdown:
			return
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure: // until the next attempt succeeds
			a.reconnects[reconnectUnreachable].Add(1)
			// A call that does not wait fails with what is wrong with the connection.
			request := &flowctlv1pb.ComponentStatusRequest{ServiceId: a.serviceID()}
			_, err := flowctlv1pb.Client{Conn: a.conn}.GetComponentStatus(ctx, request)
			a.log.Warn("control plane unreachable", "error", err)
		}
		if !conn.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// register announces the component, by the newer stock service where there is
// one: against deployed control planes load is visible only through it.
func (a *Agent) register(ctx context.Context) (stockService, error) {
	ctx, cancel := context.WithTimeout(convert.WithIncarnation(ctx, a.incarnation), a.cfg.CallTimeout)
	defer cancel()
	component := &a.cfg.Component
	ack, err := flowctlv1pb.Client{Conn: a.conn}.RegisterComponent(ctx, &flowctlv1pb.RegisterRequest{
		Component:   convert.ComponentToV1(component, a.cfg.HeartbeatInterval),
		ComponentId: component.ID,
	}, grpc.WaitForReady(true))
	id, service := ack.GetServiceId(), newerService(a.conn)
	if status.Code(err) == codes.Unimplemented {
		var old *flowctlpb.RegistrationAck
		info := convert.ComponentToFlowctl(component, a.cfg.HeartbeatInterval)
		old, err = flowctlpb.Client{Conn: a.conn}.Register(ctx, info)
		id, service = old.GetServiceId(), olderService(a.conn)
	}
	if err != nil {
		return stockService{}, err
	}
	if id == "" {
		id = component.ID
	}
	a.mu.Lock()
	a.id = id
	a.mu.Unlock()
	a.log.Info("registered", "service_id", id)
	return service, nil
}

// leave unregisters, so that the component's load leaves the pipeline's at once. It
// is a courtesy: where it fails, the registration expires. The incarnation keeps it
// from taking away a successor's.
func (a *Agent) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(a.cfg.CallTimeout, 2*time.Second))
	defer cancel()
	ctx = convert.WithIncarnation(ctx, a.incarnation)
	if err := newerService(a.conn).beat(ctx, a.serviceID(), a.heartbeat()); err != nil { // what was counted to the end
		a.log.Debug("last figures not sent", "error", err)
	}
	request := &flowctlv1pb.UnregisterRequest{ServiceId: a.serviceID()}
	_, err := flowctlv1pb.Client{Conn: a.conn}.UnregisterComponent(ctx, request)
	if err != nil {
		a.log.Debug("not unregistered", "error", err)
	}
}

// coordinate serves Sluice's own stream: load up, signals down. This goroutine
// receives, a second one sends, and both have ended when coordinate returns. The
// mode becomes Coordinated with the first signal, and not with the connection: a
// server that has just restarted listens for an interval before it decides, and
// until then the last fraction stays in force.
func (a *Agent) coordinate(ctx context.Context) error {
	parent := ctx // tells the end of the agent from the end of a silent stream
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := sluicepb.NewCoordinationClient(a.conn).Coordinate(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(&sluicepb.Up{Message: &sluicepb.Up_Hello{Hello: &sluicepb.Hello{
		ServiceId:       a.serviceID(),
		HeartbeatMillis: uint32(a.cfg.HeartbeatInterval.Milliseconds()),
		Upstreams:       a.cfg.Component.Upstreams,
		Incarnation:     a.incarnation,
	}}}); err != nil {
		_, err = stream.Recv() // the reason
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	r := newReporter(a, stream, first.GetWelcome())
	// The first report carries the fraction in force, before the control plane
	// has said anything: it may have just restarted.
	if err := r.send(time.Now(), true); err != nil {
		return err
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		r.run(ctx)
	}()
	defer func() { cancel(); <-sent }()
	// The control plane sends something once in two heartbeats. One that does not
	// may be gone without a trace, as behind a firewall that forgot the connection.
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
		a.touch()
		if bye := down.GetGoodbye(); bye != nil {
			if bye.GetReplaced() {
				return errReplaced
			}
			return errClosing
		}
		if s := down.GetSignal(); s != nil && s.GetFraction() >= 0 && s.GetFraction() <= 1 {
			if a.Mode() != backpressure.Coordinated {
				a.setMode(backpressure.Coordinated)
			}
			a.follow(backpressure.Signal{
				ServiceID: s.GetCause(),
				Load:      s.GetLoad(),
				Fraction:  s.GetFraction(),
				Active:    s.GetActive(),
				Time:      convert.Time(s.GetTime()),
				Reason:    s.GetReason(),
			})
		}
	}
}

// forgotten says whether the control plane does not know the component any
// more. Deployed servers answer with code UNKNOWN and this text.
func forgotten(err error) bool {
	return status.Code(err) == codes.NotFound ||
		status.Code(err) == codes.Unknown && strings.Contains(err.Error(), "service ID not found")
}

// Why the agent had to reach for the control plane again: a closed set, fit for
// a metric's label. The names are part of what the metrics promise.
const (
	reconnectUnreachable = iota
	reconnectForgotten
	reconnectReplaced
	reconnectRejected
	reconnectClosed
	reconnectReasons
)

var reconnectNames = [reconnectReasons]string{"unreachable", "forgotten", "replaced", "refused", "closed"}

func reconnectReason(err error) int {
	switch code := status.Code(err); {
	case err == nil:
		return reconnectClosed
	case forgotten(err):
		return reconnectForgotten
	case code == codes.Aborted:
		return reconnectReplaced
	case code == codes.Unavailable, code == codes.DeadlineExceeded,
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, errSilent):
		return reconnectUnreachable
	default:
		return reconnectRejected
	}
}

// A stockService is one of the two stock services, as the agent uses it. Which one
// is found out at registration, and stays for the connection.
type stockService struct {
	beat func(ctx context.Context, id string, metrics map[string]float64) error
	list func(ctx context.Context) ([]controlplane.Status, error)
}
