package controlplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/backpressure"
	"github.com/withobsrvr/sluice/internal/wire/flowctlpb"
	"github.com/withobsrvr/sluice/internal/wire/flowctlv1pb"
	"github.com/withobsrvr/sluice/internal/wire/sluicepb"
)

// The defaults of a [ServerConfig].
const (
	DefaultJanitorInterval = 10 * time.Second
	DefaultReportInterval  = 100 * time.Millisecond
	DefaultLoadStep        = 0.05
)

// ServerConfig configures a [Server]. A zero field is its default.
type ServerConfig struct {
	// Decision configures the controller: thresholds, policy, driver. Its Learn
	// defaults to one of its intervals here, so that a restarted control plane
	// neither releases nor slams a running pipeline; negative: decide at once.
	Decision backpressure.Config
	// JanitorInterval is how often the registry looks for stale components.
	// Default 10 s.
	JanitorInterval time.Duration
	// ReportInterval and LoadStep ask agents for a report when their load has
	// moved by LoadStep, at most once a ReportInterval. Default 100 ms and 0.05.
	ReportInterval time.Duration
	LoadStep       float64
	// Limits bound what callers can make the server remember.
	Limits Limits
	// Token is the bearer token that callers carry, if any. The gRPC server
	// demands it by the options of [BearerToken].
	Token string
	// AdminToken is the bearer token of those who may change settings. Default:
	// Token. Without any, and without Admins, settings cannot be changed from
	// outside.
	AdminToken string
	// Admins are the identities, as in client certificates, that may change
	// settings and speak for any component.
	Admins []string
	// Logger hears of registrations, expiries and the controller's transitions.
	// Default: silence.
	Logger *slog.Logger
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Decision.Interval = cmp.Or(c.Decision.Interval, backpressure.DefaultInterval)
	switch {
	case c.Decision.Learn == 0:
		c.Decision.Learn = c.Decision.Interval
	case c.Decision.Learn < 0:
		c.Decision.Learn = 0
	}
	c.JanitorInterval = cmp.Or(c.JanitorInterval, DefaultJanitorInterval)
	c.ReportInterval = cmp.Or(c.ReportInterval, DefaultReportInterval)
	c.LoadStep = cmp.Or(c.LoadStep, DefaultLoadStep)
	c.Limits = c.Limits.withDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Decision.Logger == nil {
		c.Decision.Logger = c.Logger
	}
	// The registry decides who is gone, by each component's own heartbeat.
	c.Decision.TTL = -1
	return c
}

func (c ServerConfig) validate() error {
	var problems []error
	if c.JanitorInterval <= 0 {
		problems = append(problems, fmt.Errorf("JanitorInterval is %v, want above 0", c.JanitorInterval))
	}
	if c.ReportInterval <= 0 {
		problems = append(problems, fmt.Errorf("ReportInterval is %v, want above 0", c.ReportInterval))
	}
	if !(c.LoadStep > 0 && c.LoadStep <= 1) {
		problems = append(problems, fmt.Errorf("LoadStep is %v, want above 0 and at most 1", c.LoadStep))
	}
	l := c.Limits
	for _, limit := range [...]struct {
		name string
		n    int
	}{
		{"Components", l.Components},
		{"ComponentsPerPeer", l.ComponentsPerPeer},
		{"Metrics", l.Metrics},
		{"Entries", l.Entries},
		{"Text", l.Text},
		{"Edges", l.Edges},
		{"Bytes", l.Bytes},
	} {
		if limit.n < 0 {
			problems = append(problems, fmt.Errorf("Limits.%s is %d, want 1 or more", limit.name, limit.n))
		}
	}
	return errors.Join(problems...)
}

// A Server is a control plane: a registry of components, the decision over
// their reports, and the graph of the pipeline. It keeps soft state only. All
// its methods may be called from any goroutine.
type Server struct {
	cfg        ServerConfig
	log        *slog.Logger
	controller *backpressure.Controller
	registry   *registry
	pictures   *pictures
	refused    [reasons]atomic.Uint64
	reports    atomic.Uint64

	began      time.Time
	sessionsMu sync.Mutex
	sessions   map[*session]struct{} // whose agents are listening

	closing context.Context // ends the streams and the janitor
	close   context.CancelFunc
	running sync.WaitGroup
}

// NewServer returns a server with a running janitor; [Server.Close] stops it.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg = cfg.withDefaults()
	controller, err := backpressure.New(cfg.Decision)
	if err := errors.Join(cfg.validate(), err); err != nil {
		return nil, fmt.Errorf("controlplane: bad ServerConfig: %w", err)
	}
	s := &Server{
		cfg:        cfg,
		log:        cfg.Logger,
		controller: controller,
		registry:   newRegistry(cfg.Limits),
	}
	s.pictures = &pictures{server: s}
	s.closing, s.close = context.WithCancel(context.Background())
	s.began, s.sessions = time.Now(), map[*session]struct{}{}
	s.running.Go(s.janitor)
	s.running.Go(s.pulse)
	s.running.Go(s.watch)
	return s, nil
}

// Register serves the two flowctl services and Sluice's own on registrar, a
// *grpc.Server above all.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	flowctlpb.RegisterServer(registrar, flowctlService{s})
	flowctlv1pb.RegisterServer(registrar, flowctlV1Service{s})
	sluicepb.RegisterCoordinationServer(registrar, coordinationService{server: s})
}

// Controller returns the decision, to watch or to change live.
func (s *Server) Controller() *backpressure.Controller { return s.controller }

// Components returns every registered component, sorted by id.
func (s *Server) Components() []Status { return s.registry.statuses(nil) }

// Refused returns how many requests were refused, by reason.
func (s *Server) Refused() map[Reason]uint64 {
	counts := make(map[Reason]uint64, reasons)
	for r := range reasons {
		counts[r] = s.refused[r].Load()
	}
	return counts
}

// Reports returns how many beats and heartbeats were taken.
func (s *Server) Reports() uint64 { return s.reports.Load() }

// Close asks the agents to end their streams and waits for the janitor. The
// components go on at their last fraction. It may be called more than once.
func (s *Server) Close() {
	s.close()
	s.sessionsMu.Lock()
	for own := range s.sessions {
		own.end(false)
	}
	s.sessionsMu.Unlock()
	s.running.Wait()
	s.controller.Close()
}

// register, unregister and beat are what the services have in common.

func (s *Server) register(ctx context.Context, c Component, heartbeat time.Duration) error {
	if refusal := s.mayFor(ctx, c.ID); refusal != nil {
		return s.refuse(refusal)
	}
	report, refusal := s.registry.put(c, heartbeat, peerOf(ctx))
	if refusal != nil {
		return s.refuse(refusal)
	}
	if err := s.controller.Report(report); err != nil {
		s.registry.remove(c.ID)
		return s.refuse(refusalOf(err))
	}
	s.place(c.OutputEventTypes)
	s.log.Info("component registered", "component", c.ID, "role", c.Role, "endpoint", c.Endpoint)
	s.pictures.changed()
	return nil
}

func (s *Server) unregister(ctx context.Context, id string) error {
	if refusal := s.mayFor(ctx, id); refusal != nil {
		return s.refuse(refusal)
	}
	status, known := s.registry.get(id)
	if !known || !s.registry.remove(id) {
		return s.refuse(notRegistered(id))
	}
	s.controller.RemoveService(id)
	s.place(status.OutputEventTypes)
	s.log.Info("component unregistered", "component", id)
	s.pictures.changed()
	return nil
}

func (s *Server) beat(ctx context.Context, id string, health Health, metrics map[string]float64, report func(*entry) backpressure.Report) error {
	if refusal := s.mayFor(ctx, id); refusal != nil {
		return s.refuse(refusal)
	}
	return s.take(id, nil, health, readingsOf(metrics), report)
}

// take is beat of one who may speak for id, through the stream own if not nil.
func (s *Server) take(id string, own *session, health Health, readings []reading, report func(*entry) backpressure.Report) error {
	told, refusal := s.registry.beat(id, own, health, readings, report, s.controller.Check)
	if refusal != nil {
		return s.refuse(refusal)
	}
	if err := s.controller.Report(told); err != nil {
		return s.refuse(refusalOf(err))
	}
	s.reports.Add(1)
	return nil
}

// place tells the controller of paths that a change of producers has moved.
func (s *Server) place(events []string) {
	for _, report := range s.registry.consumersOf(events) {
		if err := s.controller.Report(report); err != nil {
			s.log.Warn("component misplaced", "component", report.ServiceID, "error", err)
		}
	}
}

// undecoded counts what gRPC has refused for us, and leaves the other ends of a
// stream alone.
func (s *Server) undecoded(err error) {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		s.refused[TooMany].Add(1)
	case codes.Internal:
		s.refused[Invalid].Add(1)
	}
}

func (s *Server) refuse(refusal *Error) error {
	s.refused[refusal.Reason].Add(1)
	return statusOf(refusal)
}

func (s *Server) janitor() {
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
	for _, id := range gone {
		s.log.Warn("component expired", "component", id)
		s.controller.RemoveService(id)
	}
	for _, id := range stale {
		s.controller.RemoveService(id)
	}
	s.pictures.changed()
}

// peerOf names the connection that a call came over.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
