package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/backpressure/controlplane"
	"github.com/withobsrvr/sluice/backpressure/controlplane/internal/convert"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/backpressure/internal/wire/sluicepb"
)

// A Server is a control plane: a registry of components, the decision over
// their reports, and the graph of the pipeline. All its methods may be called
// from any goroutine.
//
// A component costs it about 50 KiB with its stream, most of it gRPC's, and a beat
// about a microsecond beside gRPC. What callers can make it remember is bounded by
// Config.Limits.
type Server struct {
	cfg        Config
	log        *slog.Logger
	controller *backpressure.Controller // of the components without a pipeline id
	pipelines  pipelines
	registry   *registry
	store      *store // nil: none
	graph      graphCache
	rejected   [reasons]atomic.Uint64
	reports    atomic.Uint64
	changing   sync.Mutex // one change of settings at a time

	closing context.Context // ends the streams and the server's own goroutines
	close   context.CancelFunc
	running sync.WaitGroup
}

// New returns a server whose goroutines run until [Server.Close]. It serves nothing
// until [Server.Register]. The error joins everything that is wrong with cfg; where
// Config.Folder cannot be used it is [ErrFolder]. Opening the folder waits up to a
// second for another server to let go of it.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	controller, err := backpressure.New(cfg.Decision)
	if err := errors.Join(cfg.validate(), err); err != nil {
		return nil, fmt.Errorf("server: bad Config: %w", err)
	}
	s := &Server{
		cfg:        cfg,
		log:        cfg.Logger,
		controller: controller,
		pipelines: pipelines{
			all: map[string]*pipeline{}, changed: map[string]bool{},
			ended: counters{rejected: map[backpressure.Reason]uint64{}},
		},
		registry: newRegistry(cfg.Limits),
	}
	s.closing, s.close = context.WithCancel(context.Background())
	if err := s.restore(); err != nil {
		s.close()
		return nil, &folderError{cfg.Folder, err}
	}
	s.running.Go(s.sweepRegularly)
	return s, nil
}

// ErrFolder is what New's error is, by errors.Is, when Config.Folder cannot be used:
// it holds no store, a damaged one, or that of a server that runs.
var ErrFolder = errors.New("server: bad Config: Folder")

type folderError struct {
	folder string
	cause  error
}

func (e *folderError) Error() string        { return fmt.Sprintf("%v %q: %v", ErrFolder, e.folder, e.cause) }
func (e *folderError) Is(target error) bool { return target == ErrFolder }
func (e *folderError) Unwrap() error        { return e.cause }

// restore takes up what the store remembers. Its components have until they are
// stale to beat again. A registration that breaks today's limits fails the start, and
// is not dropped in silence: the operator lowered them.
func (s *Server) restore() (err error) {
	if s.store, err = openStore(s.cfg.Folder); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.store.close()
		}
	}()
	settings, err := s.store.settings("")
	if err != nil {
		return err
	}
	decision, err := apply(s.controller.Config(), settings)
	if err != nil {
		return err
	}
	if err := s.controller.Reconfigure(decision); err != nil {
		return err
	}
	s.pipelines.mu.Lock()
	s.addLocked("", s.controller)
	s.pipelines.mu.Unlock()
	events := map[string][]string{}
	err = s.store.components(func(c controlplane.Component, heartbeat time.Duration) error {
		events[c.PipelineID] = append(events[c.PipelineID], c.OutputEventTypes...)
		_, _, err := s.registry.put(c, heartbeat, registrant{peer: "restored " + c.ID})
		return err
	})
	for pipeline, types := range events {
		s.pipeline(pipeline)
		s.registry.placeConsumers(pipeline, types) // a consumer may have been put before its producer
	}
	return err
}

// Register serves the two flowctl services and Sluice's own on registrar, a
// *grpc.Server above all, before that one serves. [GRPCOptions] are the options for
// thousands of agents, [BearerToken] those for Config.Token: the server itself checks
// identities in certificates and who may change settings, and no token on other calls.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	flowctlpb.RegisterServer(registrar, flowctlService{s})
	flowctlv1pb.RegisterServer(registrar, flowctlV1Service{s})
	sluicepb.RegisterCoordinationServer(registrar, coordinationService{server: s})
}

// Controller returns the decision for the components without a pipeline id, which is
// all of them where nobody sets one, to watch or to change live. [Server.Pipeline] is
// that of a pipeline, [Server.Snapshot] what all say together. What is changed there
// is not remembered in Config.Folder, which is for changes from outside. Do not close
// it; reports belong to the registry.
func (s *Server) Controller() *backpressure.Controller { return s.controller }

// Components returns every registered component, sorted by id, stale ones too. They
// are copies; the registry is locked for a millisecond where there are ten thousand.
func (s *Server) Components() []controlplane.Status { return s.registry.statuses(nil) }

// Stock returns the ids of the components that speak flowctl's services alone and
// are not stale, in no order. Such a component has no agent, and so none of our
// metrics: a monitor beside the server exports its figures.
func (s *Server) Stock() []string { return s.registry.stock() }

// Rejected returns how many requests were rejected since the start, by reason. Every
// reason is in it, also at 0. What the controller judged counts here as Invalid, and
// in the controller's own counts by its reason.
func (s *Server) Rejected() map[Reason]uint64 {
	counts := make(map[Reason]uint64, reasons)
	for r := range reasons {
		counts[r] = s.rejected[r].Load()
	}
	return counts
}

// Reports returns how many beats and heartbeats were taken.
func (s *Server) Reports() uint64 { return s.reports.Load() }

// Close asks the agents to end their streams and waits for the server's own
// goroutines, not for the streams: those end with the gRPC server, which is stopped
// after it. The components go on at their last fraction and look for a control plane
// again. It may be called more than once.
func (s *Server) Close() {
	s.pipelines.mu.Lock()
	s.close()
	s.pipelines.mu.Unlock()
	for _, session := range s.registry.sessions() {
		session.end(false)
	}
	s.running.Wait()
	for _, id := range s.Pipelines() {
		if c := s.Pipeline(id); c != nil {
			c.Close()
		}
	}
	s.note(s.store.close())
}

// register, unregister and take are what the services have in common. Each judges
// everything before it changes anything, so that what is rejected leaves no trace but
// its count.

// register makes c known to the registry and the decision. An agent says by its
// incarnation that it will register again by itself, so only others are stored.
func (s *Server) register(ctx context.Context, c controlplane.Component, heartbeat time.Duration) error {
	if err := s.mayFor(ctx, c.ID); err != nil {
		return s.count(err)
	}
	report, old, err := s.registry.put(c, heartbeat, registrant{peerOf(ctx), convert.Incarnation(ctx)})
	if err != nil {
		return s.count(err)
	}
	if old != nil && old.PipelineID != c.PipelineID {
		s.left(old)
	}
	if err := s.pipeline(c.PipelineID).controller.Report(report); err != nil {
		_, _ = s.registry.remove(c.ID, 0)
		s.tidy(c.PipelineID)
		return s.count(rejectedReport(err))
	}
	if convert.Incarnation(ctx) == 0 {
		s.note(s.store.remember(&c, heartbeat))
	}
	s.place(c.PipelineID, c.OutputEventTypes)
	s.log.Info("component registered", "component", c.ID, "kind", c.Kind, "endpoint", c.Endpoint)
	return nil
}

// unregister forgets a component everywhere. Its load leaves the decision at once.
func (s *Server) unregister(ctx context.Context, id string) error {
	if err := s.mayFor(ctx, id); err != nil {
		return s.count(err)
	}
	c, err := s.registry.remove(id, convert.Incarnation(ctx))
	if err != nil {
		return s.count(err)
	}
	s.note(s.store.forget(id))
	s.left(&c)
	s.log.Info("component unregistered", "component", id)
	return nil
}

// left takes a component that is no longer registered out of the decision of its
// pipeline, and works out what that changes for those that it fed.
func (s *Server) left(c *controlplane.Component) {
	if p := s.known(c.PipelineID); p != nil {
		p.controller.RemoveService(c.ID)
		s.place(c.PipelineID, c.OutputEventTypes)
		s.tidy(c.PipelineID)
	}
}

// note logs what the store could not do: a component works on, and is not
// remembered.
func (s *Server) note(err error) {
	if err != nil {
		s.log.Error("not stored", "error", err)
	}
}

// take takes a beat of a caller that may speak for its component. The registry asks
// the controller before it changes anything, so that both take the beat or neither.
func (s *Server) take(b *beat) error {
	report, pipeline, err := s.registry.beat(b, s.controller.Check) // what is plausible is so in all pipelines
	if err != nil {
		return s.count(err)
	}
	if err := s.pipeline(pipeline).controller.Report(report); err != nil {
		return s.count(rejectedReport(err))
	}
	s.reports.Add(1)
	return nil
}

// place reports to the pipeline's controller which paths a change of producers has
// moved.
func (s *Server) place(pipeline string, events []string) {
	for _, report := range s.registry.placeConsumers(pipeline, events) {
		if err := s.pipeline(pipeline).controller.Report(report); err != nil {
			s.log.Warn("component misplaced", "component", report.ServiceID, "error", err)
		}
	}
}

// sweepRegularly is one of the server's goroutines; each pipeline has another.
func (s *Server) sweepRegularly() {
	ticker := time.NewTicker(s.cfg.JanitorInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case now := <-ticker.C:
			s.sweep(now)
		}
	}
}

// sweep takes stale components out of the decision, and gone ones out of the
// registry.
func (s *Server) sweep(now time.Time) {
	gone, stale := s.registry.expire(now)
	for i := range gone {
		s.log.Warn("component expired", "component", gone[i].ID)
		s.note(s.store.forget(gone[i].ID))
		s.left(&gone[i])
	}
	for _, c := range stale {
		if p := s.known(c.PipelineID); p != nil {
			p.controller.RemoveService(c.ID)
		}
	}
}

// peerOf names the connection that a call came over.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
