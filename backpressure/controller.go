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
// A report costs O(log n) in the number of services on its path, whatever the
// number of paths; memory is about 1 KiB a service. Nothing is kept over a restart:
// see Config.Learn for a decider that starts under a running pipeline.
//
// One lock guards all of it: a report holds it for about 200 ns, and what only
// reads holds it shared, for a copy. Ten thousand reports a second leave it free
// for 99.8 percent of the time. A lock for each service was tried. It made the sums
// approximate for an instant, and saved nothing that a profile shows.
type Controller struct {
	// Times inside are durations since base, so that a step of the wall clock
	// moves none of them.
	base     time.Time
	rejected [reasons]atomic.Uint64
	cfg      atomic.Pointer[Config] // replaced, never changed

	deliveries // the way out, see deliver.go

	mu        sync.RWMutex // guards what follows
	services  map[string]*service
	silent    *list.List // of *service, the longest silent first
	paths     []*path    // never empty; the first is that of services without a place
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
	activations uint64        // of all paths, also of those that are gone
}

// New returns a controller that knows no service and admits everything. It
// starts no goroutine: while there is something to decide, a timer ticks. A
// controller that is at rest may be dropped without Close.
//
// The error is an [*Error] of the reason [BadConfig]. It joins everything that is
// wrong with cfg, each by field, value and wanted range.
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

// Close stops the timer. The controller still answers and still takes reports;
// what only time would move, expiry and the ageing of signals, stays as it is. Close
// may be called more than once, and waits for nothing.
func (c *Controller) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *Controller) now() time.Duration { return time.Since(c.base) }

// Report takes a service's report, decides, and delivers the decision: when it
// returns, every bound setter has been set and every subscriber has its signal. It
// never waits for another goroutine's setters. If one is delivering at this moment,
// that one delivers this decision as well, right after its own.
//
// A service is known from its first report on. The report replaces the one before;
// a report that is late by its Time still counts as the newest, because only its
// sender knows the order. An error is an [*Error] and leaves everything as it was:
// the sums, the service's last report, and the time at which it was last heard from.
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

// Check says whether Report would take r, and changes nothing but the count of
// rejections. It is for a caller that has to change something of its own together
// with the report, and asks before either. Whether there is room for another service
// is found out by Report alone.
func (c *Controller) Check(r Report) error {
	if e := c.cfg.Load().checkReport(&r, time.Now); e != nil {
		return c.reject(e)
	}
	return nil
}

// RemoveService forgets a service: its load leaves the sums at once, its path is
// decided anew, and the decision is delivered as by Report. Its entries go on from
// the fraction that they have. An unknown id is no error: the service may have
// expired in the same moment.
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
// calls it every Config.Tick while there is something to do. Calling it as well is
// harmless, however often: what it does depends on the clock, and not on the count
// of calls. With a negative Config.Tick the caller's ticks are the only ones.
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

// Config returns the configuration in force, defaults filled in. It is a copy:
// to change a setting, give a changed one to [Controller.Reconfigure].
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
