package backpressure

import (
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// A FractionSetter is anything that can be told which share to let through, a
// throttler above all. SetFraction must not block.
type FractionSetter interface{ SetFraction(fraction float64) }

// A Controller turns load reports into the fraction that a pipeline admits. All
// its methods may be called from any goroutine, also from within SetFraction.
type Controller struct {
	base     time.Time
	rejected [reasons]atomic.Uint64
	fraction atomic.Uint64 // float64 bits: the least of the paths
	active   atomic.Bool   // on any path

	deliveries // the way out, see deliver.go

	mu        sync.Mutex
	cfg       Config
	services  map[string]*service
	silent    serviceList // services, the longest silent first
	paths     []*path
	external  map[string]*external
	inFlight  int64 // over all services
	dirty     bool  // paths are older than the edges
	rebuilt   bool  // the paths are new, and not yet published
	sinceWork int   // reports since the paths were last built
	edges     int   // upstream names over all services
	learned   time.Duration
	learning  bool
	timer     *time.Timer
	closed    bool

	activeSince, activeTime time.Duration
}

// A service is what the controller keeps of one component. It is guarded by
// the controller's mutex.
type service struct {
	report     Report
	load       float64
	updated    time.Duration // since base
	when       time.Time
	members    []*member
	prev, next *service
}

// New returns a controller that knows no service and admits everything. It
// starts no goroutine: while there is something to decide, a timer ticks.
func New(cfg Config) (*Controller, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	c := &Controller{
		base:     time.Now(),
		cfg:      cfg,
		services: map[string]*service{},
		external: map[string]*external{},
		learning: cfg.Learn > 0,
	}
	c.fraction.Store(math.Float64bits(1))
	c.paths = []*path{newPath("")}
	return c, nil
}

// Close stops the timer. The controller answers on, at its last fraction.
func (c *Controller) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *Controller) now() time.Duration { return time.Since(c.base) }

// Report takes a service's report, decides, and before it returns has told
// every bound setter. A service is known from its first report on. An error is
// an [*Error] and leaves everything as it was.
func (c *Controller) Report(r Report) error {
	c.mu.Lock()
	if e := c.cfg.checkReport(&r, time.Now); e != nil {
		c.mu.Unlock()
		return c.reject(e)
	}
	s := c.services[r.ServiceID]
	if s == nil {
		var e *Error
		if s, e = c.addLocked(r.ServiceID); e != nil {
			c.mu.Unlock()
			return c.reject(e)
		}
	}
	c.adoptLocked(s, &r)
	changed := c.decideLocked(s)
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return nil
}

// Check says whether Report would take r, and changes nothing.
func (c *Controller) Check(r Report) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.cfg.checkReport(&r, time.Now); e != nil {
		return c.reject(e)
	}
	return nil
}

// UpdateServiceInFlight changes the in flight of a service that is known and
// leaves the rest of its report as it is, but for Load, which is derived anew.
func (c *Controller) UpdateServiceInFlight(id string, inFlight int64) error {
	if known, err := c.update(id, inFlight, keep); known {
		return err
	}
	return c.reject(&Error{Reason: UnknownService, ServiceID: shorten(id)})
}

// UpdateServiceMaxInFlight changes the maximum of a service, which is made
// known if it was not.
func (c *Controller) UpdateServiceMaxInFlight(id string, maxInFlight int64) error {
	if known, err := c.update(id, keep, maxInFlight); known {
		return err
	}
	return c.Report(Report{ServiceID: id, MaxInFlight: maxInFlight})
}

const keep = math.MinInt64

func (c *Controller) update(id string, inFlight, maxInFlight int64) (known bool, err error) {
	c.mu.Lock()
	s := c.services[id]
	if s == nil {
		c.mu.Unlock()
		return false, nil
	}
	r := s.report
	r.Time, r.Load = time.Time{}, 0
	if inFlight != keep {
		r.InFlight = inFlight
	}
	if maxInFlight != keep {
		r.MaxInFlight = maxInFlight
	}
	if e := c.cfg.checkReport(&r, time.Now); e != nil {
		c.mu.Unlock()
		return true, c.reject(e)
	}
	c.adoptLocked(s, &r)
	changed := c.decideLocked(s)
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return true, nil
}

// RemoveService forgets a service: its load leaves the sums at once.
func (c *Controller) RemoveService(id string) {
	c.mu.Lock()
	changed := false
	if s := c.services[id]; s != nil {
		c.removeLocked(s)
		changed = c.tickLocked()
	}
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
}

// Tick does what has become due: it expires silent services, lets signals age,
// and moves the fraction by the time that has passed. The controller's timer
// calls it every Config.Tick while there is something to do.
func (c *Controller) Tick() {
	c.mu.Lock()
	changed := c.tickLocked()
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
}

// SetThresholds changes the thresholds of activation and recovery, at once and
// for every path.
func (c *Controller) SetThresholds(activation, recovery float64) error {
	return c.reconfigure(func(cfg *Config) { cfg.Activation, cfg.Recovery = activation, recovery })
}

// SetPolicy changes the policy. Paths that are under backpressure go on from
// the fraction that they have.
func (c *Controller) SetPolicy(p Policy) error {
	return c.reconfigure(func(cfg *Config) { cfg.Policy = p })
}

// SetDriver changes which load decides.
func (c *Controller) SetDriver(d Driver) error {
	return c.reconfigure(func(cfg *Config) { cfg.Driver = d })
}

// Reconfigure replaces the whole configuration, but for Learn, which belongs to
// a start. Services, loads and fractions stay.
func (c *Controller) Reconfigure(cfg Config) error {
	return c.reconfigure(func(old *Config) { *old = cfg })
}

// Config returns the configuration in force, defaults filled in.
func (c *Controller) Config() Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cfg
}

func (c *Controller) reconfigure(change func(*Config)) error {
	c.mu.Lock()
	cfg := c.cfg
	change(&cfg)
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		c.mu.Unlock()
		return c.reject(err.(*Error))
	}
	swapped := policyName(cfg.Policy) != policyName(c.cfg.Policy)
	c.cfg = cfg
	for _, p := range c.paths {
		if swapped && p.active {
			p.event = Resumed
		}
	}
	changed := c.tickLocked()
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return nil
}

func (c *Controller) reject(e *Error) error {
	c.rejected[e.Reason].Add(1)
	return e
}

func (c *Controller) addLocked(id string) (*service, *Error) {
	if len(c.services) >= c.cfg.MaxServices {
		return nil, &Error{Reason: TooMany, ServiceID: shorten(id), Field: "services", Value: "at their limit"}
	}
	s := &service{report: Report{ServiceID: id}}
	c.services[id] = s
	c.paths[0].join(s) // the path of the unconnected, until the paths are built anew
	c.dirty = c.dirty || c.edges > 0
	if c.learning && c.learned == 0 {
		c.learned = c.now() + c.cfg.Learn
	}
	c.armLocked()
	return s, nil
}

// adoptLocked makes r the service's report and keeps every sum exact.
func (c *Controller) adoptLocked(s *service, r *Report) {
	if r.Role == RoleUnknown {
		r.Role = s.report.Role
	}
	if r.Upstreams == nil {
		r.Upstreams = s.report.Upstreams
	} else if !sameStrings(r.Upstreams, s.report.Upstreams) {
		c.edges += len(r.Upstreams) - len(s.report.Upstreams)
		r.Upstreams = append([]string{}, r.Upstreams...)
		c.dirty = true
	} else {
		r.Upstreams = s.report.Upstreams
	}
	r.ServiceID = s.report.ServiceID // one copy of the text
	flown, room := counted(r)-counted(&s.report), r.MaxInFlight-s.report.MaxInFlight
	c.inFlight += r.InFlight - s.report.InFlight
	s.report = *r
	s.load = r.load()
	s.updated = c.now()
	s.when = c.base.Add(s.updated)
	for _, m := range s.members {
		m.path.inFlight += flown
		m.path.maxInFlight += room
		m.path.worst.move(m, bucketOf(s.load))
	}
	c.silent.moveToBack(s)
	c.sinceWork++
}

// counted is what a service adds to the aggregate's numerator: without a limit,
// nothing.
func counted(r *Report) int64 {
	if r.MaxInFlight == 0 {
		return 0
	}
	return r.InFlight
}

func (c *Controller) removeLocked(s *service) {
	c.inFlight -= s.report.InFlight
	c.edges -= len(s.report.Upstreams)
	for _, m := range s.members {
		m.leave()
	}
	s.members = nil
	c.silent.remove(s)
	delete(c.services, s.report.ServiceID)
	c.dirty = c.dirty || c.edges > 0 || len(c.paths) > 1
}

// decideLocked is what a report costs: the paths of its service, no others.
func (c *Controller) decideLocked(s *service) (changed bool) {
	now := s.updated
	c.expireLocked(now, 2) // a few, so that reports alone keep the sums fresh
	if c.learningLocked(now) {
		return false
	}
	// Building costs as much as there are services: at once while they are few,
	// otherwise once for every so many reports, or at the next tick.
	if c.dirty && (len(c.services) <= 256 || c.sinceWork*4 >= len(c.services)) {
		c.buildPathsLocked()
	}
	for _, m := range s.members {
		if c.stepLocked(m.path, s, now) {
			changed = true
		}
	}
	return (changed || c.rebuilt) && c.publishLocked()
}

// tickLocked is decideLocked for everybody.
func (c *Controller) tickLocked() (changed bool) {
	now := c.now()
	c.expireLocked(now, len(c.services))
	if c.learningLocked(now) {
		return false
	}
	if c.dirty {
		c.buildPathsLocked()
	}
	c.ageLocked(now)
	for _, p := range c.paths {
		c.stepLocked(p, nil, now)
	}
	return c.publishLocked()
}

func (c *Controller) expireLocked(now time.Duration, most int) {
	if c.cfg.TTL < 0 {
		return
	}
	for ; most > 0 && c.silent.front != nil; most-- {
		s := c.silent.front
		if now-s.updated <= c.cfg.TTL {
			return
		}
		c.cfg.Logger.Warn("service expired", slog.String("service_id", s.report.ServiceID), slog.Duration("silent", now-s.updated))
		c.removeLocked(s)
	}
}

// learningLocked reports whether the controller still only listens. When the
// time is over it takes up each path where the services are.
func (c *Controller) learningLocked(now time.Duration) bool {
	if !c.learning {
		return false
	}
	if c.learned == 0 || now < c.learned {
		return true
	}
	c.learning = false
	c.rebuilt = true
	c.buildPathsLocked()
	for _, p := range c.paths {
		p.last = -1 // the smoothed load starts from where the load is
		if f := p.reportedFraction(); f < 0.995 {
			p.active, p.event, p.fraction = true, Resumed, max(f, c.cfg.Floor)
			p.since = c.base.Add(now)
		}
	}
	c.cfg.Logger.Info("learned", slog.Int("services", len(c.services)), slog.Int("paths", len(c.paths)))
	return false
}

// publishLocked makes the paths' state the controller's, and reports whether
// anything changed that somebody may want to hear of.
func (c *Controller) publishLocked() bool {
	fraction, active, changed := 1.0, false, c.rebuilt
	c.rebuilt = false
	for _, p := range c.paths {
		fraction = min(fraction, p.effective())
		active = active || p.active || p.cap < 1
		changed = changed || p.changed
		p.changed = false
	}
	c.fraction.Store(math.Float64bits(fraction))
	if was := c.active.Swap(active); active != was {
		if now := c.now(); active {
			c.activeSince = now
		} else {
			c.activeTime += now - c.activeSince
		}
	}
	return changed
}

// armLocked keeps the timer running while there is something to decide. A
// controller at rest has no timer, so that one that is dropped is collected.
func (c *Controller) armLocked() {
	if c.cfg.Tick < 0 || c.closed || c.timer != nil {
		return
	}
	c.timer = time.AfterFunc(c.cfg.Tick, c.onTimer)
}

func (c *Controller) onTimer() {
	c.Tick()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	if len(c.services) > 0 || len(c.external) > 0 || c.active.Load() || c.Fraction() < 1 {
		c.armLocked()
	}
}

func sameStrings(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// A serviceList is a list of services through their own links.
type serviceList struct{ front, back *service }

func (l *serviceList) remove(s *service) {
	if s.prev != nil {
		s.prev.next = s.next
	} else if l.front == s {
		l.front = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else if l.back == s {
		l.back = s.prev
	}
	s.prev, s.next = nil, nil
}

func (l *serviceList) moveToBack(s *service) {
	if l.back == s {
		return
	}
	l.remove(s)
	if s.prev = l.back; l.back != nil {
		l.back.next = s
	} else {
		l.front = s
	}
	l.back = s
}
