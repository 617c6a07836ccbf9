package connpool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
)

// A Pool spreads calls over several connections to one endpoint. It is a
// grpc.ClientConnInterface: generated clients, Flight and Flight SQL take it as
// they take a *grpc.ClientConn. All its methods may be called by any number of
// goroutines.
type Pool struct {
	target  string
	cfg     Config
	lanes   []*lane // the main one first
	byName  map[string]*lane
	routes  map[string]*lane // by full method or service
	unary   *lane
	dialOpt []grpc.DialOption
	creds   credentials.TransportCredentials
	breaker *breaker

	ctx         context.Context // ends with Close
	cancel      context.CancelFunc
	shut        atomic.Bool   // no new calls
	stopped     chan struct{} // closed when the worker and all it started are gone
	emptied     chan struct{} // closed by the worker when the pool is shut and has no slots
	streamLimit atomic.Int32  // the server's, as it was last announced; 0 = none
	reclaiming  atomic.Bool   // the worker looks for abandoned streams
	counters    counters

	noteMu sync.Mutex // guards notes
	notes  []*call    // abandoned streams, left by cleanups

	// mu guards what the worker shares with Stats; no call takes it. The worker
	// alone writes slots and retry, so it reads them without the lock.
	mu         sync.Mutex
	slots      []*slot // every slot that is not yet closed
	gone       []*slot // closed, and about to leave slots
	closedUses int64
	retry      failure // the last failed dial; zero after a success
	worker
}

// New checks target and cfg and returns a pool that is opening its first
// connections. It does not wait for them: calls do.
func New(target string, cfg Config) (*Pool, error) {
	cfg = cfg.withDefaults(target)
	p := &Pool{
		target: target, cfg: cfg, byName: map[string]*lane{}, routes: map[string]*lane{},
		stopped: make(chan struct{}), emptied: make(chan struct{}),
	}
	err := cfg.validate()
	if err == nil || cfg.TLS == nil || cfg.Credentials == nil {
		err = errors.Join(err, p.checkTarget())
	}
	if err != nil {
		return nil, fmt.Errorf("connpool: %q: %w", target, err)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.addLane(Lane{Min: max(0, cfg.MinConnections), Max: cfg.MaxConnections})
	for _, l := range cfg.Lanes {
		p.addLane(l)
	}
	if cfg.Breaker.Failures > 0 {
		p.breaker = newBreaker(cfg.Breaker, cfg.Logger.With("endpoint", target))
	}
	p.timer = time.AfterFunc(time.Hour, p.wake)
	p.timer.Stop()
	p.maintain = time.Now().Add(p.maintenance())
	p.wake()
	return p, nil
}

// checkTarget lets gRPC judge the target and the options without connecting.
func (p *Pool) checkTarget() error {
	if strings.TrimSpace(p.target) == "" {
		return errors.New("target is empty, want a gRPC name such as dns:///host:port")
	}
	for _, o := range p.cfg.DialOptions {
		if o == nil {
			return nil // reported by validate; gRPC would panic on it
		}
	}
	// Their credentials would come after the pool's, and unseen.
	if cc, err := grpc.NewClient(p.target, p.cfg.DialOptions...); err == nil {
		_ = cc.Close()
		return errors.New("DialOptions hold transport credentials, want them as Config.Credentials or Config.TLS")
	}
	if p.cfg.TLS == nil && p.cfg.Credentials == nil {
		return errors.New("no transport security is set, want Config.TLS or Config.Credentials" +
			" (insecure.NewCredentials() for none)")
	}
	p.dialOpt, p.creds = dialOptions(p.cfg), transportCredentials(p.cfg)
	cc, err := grpc.NewClient(p.target, append(slices.Clone(p.dialOpt), grpc.WithTransportCredentials(p.creds))...)
	if err != nil {
		return err
	}
	return errors.Join(checkName(cc.CanonicalTarget()), cc.Close())
}

// checkName rejects what gRPC's DNS resolver will not take: it would say so to
// the first call only. A Flight location ("grpc+tcp://host:port") is such a name.
func checkName(canonical string) error {
	u, err := url.Parse(canonical)
	if err != nil || u.Scheme != "dns" {
		return nil // gRPC has parsed it, and other resolvers have rules of their own
	}
	name := resolver.Target{URL: *u}.Endpoint()
	if _, err := netip.ParseAddr(name); err == nil {
		return nil
	}
	_, port, err := net.SplitHostPort(name)
	if err != nil {
		_, port, err = net.SplitHostPort(name + ":443") // as gRPC does
	}
	if err != nil || name == "" || port == "" || strings.Contains(name, "/") {
		return fmt.Errorf("target names the host %q, want a gRPC name such as dns:///host:port", name)
	}
	return nil
}

func (p *Pool) addLane(cfg Lane) {
	l := &lane{pool: p, name: cfg.Name, min: cfg.Min, max: cfg.Max}
	l.slots.Store(&[]*slot{})
	p.lanes = append(p.lanes, l)
	p.byName[cfg.Name] = l
	for _, m := range cfg.Methods {
		p.routes[m] = l
	}
	if cfg.Unary || p.unary == nil {
		p.unary = l
	}
}

// Invoke makes a unary call on a connection of its lane.
func (p *Pool) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	for lost := 0; ; {
		c, err := p.begin(ctx, method, p.unary, opts)
		if err != nil {
			return err
		}
		err = c.invoke(method, args, reply, opts)
		if err == nil || !c.moves(ctx, err, true, &lost) {
			return c.result(ctx, err)
		}
	}
}

// invoke runs the call on its slot; it is over when this returns.
func (c *call) invoke(method string, args, reply any, opts []grpc.CallOption) (err error) {
	defer func() { c.end(err) }() // also when an interceptor panics
	return noFalseEOF(c.slot.cc.Invoke(c, method, args, reply, opts...))
}

// NewStream opens a stream on a connection of its lane, and counts it there
// until it ends. One goroutine may send while another receives.
func (p *Pool) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	for lost := 0; ; {
		c, err := p.begin(ctx, method, p.lanes[0], opts)
		if err != nil {
			return nil, err
		}
		s, err := c.open(desc, method, opts)
		if phase := c.phase.Load(); err == nil && (phase == phaseMoved || phase == phaseTooLate) {
			// Its header went out while it was taken back, and no message did.
			c.end(errMoved)
			err = errMoved
		}
		if err == nil {
			return s, nil
		}
		if !c.moves(ctx, err, false, &lost) {
			return nil, c.result(ctx, err)
		}
	}
}

// begin picks a slot for one attempt.
func (p *Pool) begin(ctx context.Context, method string, fallback *lane, opts []grpc.CallOption) (*call, error) {
	h := hintsFrom(ctx)
	l, err := p.route(h, method, fallback)
	if err != nil {
		return nil, err
	}
	probing, wait := false, time.Duration(0)
	if p.breaker != nil {
		if probing, wait = p.breaker.enter(); wait > 0 {
			p.counters.rejected[ReasonBreakerOpen].Add(1)
			return nil, &Error{
				Reason: ReasonBreakerOpen, Endpoint: p.target, Lane: l.name, Cause: p.breaker.cause(), RetryAfter: wait,
			}
		}
	}
	var s *slot
	if p.shut.Load() {
		err = l.rejection(ReasonClosed, nil)
	} else {
		s, err = l.acquire(ctx, h.affinity, waitsForReady(opts))
	}
	if err != nil {
		if p.breaker != nil {
			p.breaker.rejected(err, probing)
		}
		return nil, err
	}
	c := newCall(ctx, s)
	c.probing.Store(probing)
	return c, nil
}

func (p *Pool) route(h hints, method string, fallback *lane) (*lane, error) {
	if h.hasLane {
		if l := p.byName[h.lane]; l != nil {
			return l, nil
		}
		return nil, &Error{Reason: ReasonUnknownLane, Endpoint: p.target, Lane: h.lane}
	}
	if l := p.routes[method]; l != nil {
		return l, nil
	}
	if l := p.routes[method[:strings.LastIndexByte(method, '/')+1]]; l != nil {
		return l, nil
	}
	return fallback, nil
}

// waitsForReady reports whether the last word on waiting is grpc.WaitForReady(true).
func waitsForReady(opts []grpc.CallOption) bool {
	waits := false
	for _, o := range opts {
		if f, ok := o.(grpc.FailFastCallOption); ok {
			waits = !f.FailFast
		}
	}
	return waits
}

// Shared returns a view of the pool that has no Close method, for clients that
// close the connection that they were given, as flight.Client does.
func (p *Pool) Shared() grpc.ClientConnInterface { return shared{p} }

type shared struct{ p *Pool }

func (s shared) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return s.p.Invoke(ctx, method, args, reply, opts...)
}

func (s shared) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return s.p.NewStream(ctx, desc, method, opts...)
}

// Target is the endpoint as New was given it.
func (p *Pool) Target() string { return p.target }

// Shutdown rejects new calls, waits for the running ones, and closes. When ctx
// ends first it closes at once, as Close does, and returns the context's cause.
func (p *Pool) Shutdown(ctx context.Context) error {
	p.rejectAll()
	select {
	case <-p.emptied:
		return p.Close()
	case <-p.stopped:
		return nil
	case <-ctx.Done():
		_ = p.Close()
		return context.Cause(ctx)
	}
}

// Close rejects new calls, ends the running ones and waits until everything
// that the pool started is gone. It may be called again.
func (p *Pool) Close() error {
	p.rejectAll()
	p.cancel()
	p.wake()
	<-p.stopped
	return nil
}

func (p *Pool) rejectAll() {
	p.shut.Store(true)
	for _, l := range p.lanes {
		l.close()
	}
	p.wake()
}

func (p *Pool) isClosed() bool { return p.shut.Load() }

// watchStreams makes the worker look for abandoned streams, while any runs.
func (p *Pool) watchStreams() {
	if !p.reclaiming.Load() && p.reclaiming.CompareAndSwap(false, true) {
		p.wake()
	}
}

// abandon notes a stream that was collected. Safe on any goroutine, also
// outside of the bubble that the pool lives in.
func (p *Pool) abandon(c *call) {
	if c.done.Load() {
		return
	}
	p.noteMu.Lock()
	defer p.noteMu.Unlock()
	p.notes = append(p.notes, c)
}

var _ grpc.ClientConnInterface = (*Pool)(nil)
