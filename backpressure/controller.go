package backpressure

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// A FractionSetter is anything that admits a settable share of the offered
// work, a throttler above all. SetFraction must not block.
type FractionSetter interface{ SetFraction(fraction float64) }

// A Controller turns load reports into the fraction that a pipeline admits. All
// its methods may be called from any goroutine, also from within SetFraction.
//
// One lock guards all of it: a report holds it for about 200 ns, and what only
// reads holds it shared, for a copy. Ten thousand reports a second leave it free
// for 99.8 percent of the time.
type Controller struct {
	base     time.Time
	rejected [reasons]atomic.Uint64
	cfg      atomic.Pointer[Config] // replaced, never changed

	deliveries // the way out, see deliver.go

	mu        sync.RWMutex // guards what follows
	services  map[string]*service
	silent    *list.List // of *service, the longest silent first
	paths     []*path
	external  map[string]*external
	inFlight  int64 // over all services
	dirty     bool  // paths are older than the edges
	rebuilt   bool  // the paths are new, and no subscriber knows it
	sinceWork int   // reports since the paths were last built
	edges     int   // upstream names over all services
	learned   time.Duration
	learning  bool
	timer     *time.Timer
	closed    bool

	fraction    float64 // the least of the paths
	active      bool    // on any path
	activeSince time.Duration
	activeTime  time.Duration // before activeSince
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
		services: map[string]*service{},
		silent:   list.New(),
		paths:    []*path{newPath("")},
		external: map[string]*external{},
		learning: cfg.Learn > 0,
		fraction: 1,
	}
	c.cfg.Store(&cfg)
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

// Report takes a service's report, decides, and before it returns has set every
// bound setter. A service is known from its first report on. An error is an
// [*Error] and leaves everything as it was.
func (c *Controller) Report(r Report) error {
	if e := c.cfg.Load().checkReport(&r, time.Now); e != nil {
		return c.reject(e)
	}
	c.mu.Lock()
	changed, e := c.takeLocked(&r)
	c.mu.Unlock()
	return c.finish(changed, e)
}

// takeLocked takes a report that has been checked, and decides.
func (c *Controller) takeLocked(r *Report) (changed bool, e *Error) {
	s := c.services[r.ServiceID]
	if s == nil {
		if s, e = c.newServiceLocked(r.ServiceID); e != nil {
			return false, e
		}
	}
	c.adoptLocked(s, r)
	return c.decideLocked(s), nil
}

// finish is what a change leads to once the lock is released.
func (c *Controller) finish(changed bool, e *Error) error {
	if e != nil {
		return c.reject(e)
	}
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

func (c *Controller) reject(e *Error) error {
	c.rejected[e.Reason].Add(1)
	return e
}

// Config returns the configuration in force, defaults filled in.
func (c *Controller) Config() Config { return *c.cfg.Load() }

// Reconfigure replaces the whole configuration, except for Learn, which belongs
// to a start, at once and for every path. Services and loads stay, and a path
// that is under backpressure goes on from the fraction that it has. To change
// one setting, change it in what [Controller.Config] returns.
func (c *Controller) Reconfigure(cfg Config) error {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return c.reject(err.(*Error))
	}
	c.mu.Lock()
	if old := c.cfg.Swap(&cfg); policyName(cfg.Policy) != policyName(old.Policy) {
		for _, p := range c.paths {
			if p.active {
				p.event = Resumed
			}
		}
	}
	changed := c.tickLocked()
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return nil
}
