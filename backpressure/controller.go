package backpressure

import (
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
// Those that only read take no lock that a report takes: they read what the
// deciding ones have published, see published.go.
type Controller struct {
	base     time.Time
	rejected [reasons]atomic.Uint64
	cfg      atomic.Pointer[Config] // replaced, never changed
	services directory
	view     controllerView

	deliveries // the way out, see deliver.go

	mu        sync.Mutex  // guards what follows: the deciding
	silent    serviceList // services, the longest silent first
	paths     []*path     // replaced, never changed
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
		services: directory{locked: map[string]*service{}},
		external: map[string]*external{},
		learning: cfg.Learn > 0,
	}
	c.cfg.Store(&cfg)
	c.paths = []*path{newPath("")}
	c.rebuilt = true
	c.publishLocked()
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
	if e := c.cfg.Load().checkReport(&r, time.Now); e != nil {
		return c.reject(e)
	}
	c.mu.Lock()
	s := c.services.locked[r.ServiceID]
	fresh := s == nil
	if fresh {
		var e *Error
		if s, e = c.newServiceLocked(r.ServiceID); e != nil {
			c.mu.Unlock()
			return c.reject(e)
		}
	}
	c.adoptLocked(s, &r)
	if fresh {
		c.services.add(s)
	}
	changed := c.decideLocked(s)
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return nil
}

// Check says whether Report would take r, and changes nothing.
func (c *Controller) Check(r Report) error {
	if e := c.cfg.Load().checkReport(&r, time.Now); e != nil {
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
	s := c.services.locked[id]
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
	if e := c.cfg.Load().checkReport(&r, time.Now); e != nil {
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
	if s := c.services.locked[id]; s != nil {
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

func (c *Controller) reject(e *Error) error {
	c.rejected[e.Reason].Add(1)
	return e
}
