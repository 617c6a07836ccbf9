package backpressure

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
func (c *Controller) Config() Config { return *c.cfg.Load() }

func (c *Controller) reconfigure(change func(*Config)) error {
	c.mu.Lock()
	old := c.cfg.Load()
	cfg := *old
	change(&cfg)
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		c.mu.Unlock()
		return c.reject(err.(*Error))
	}
	swapped := policyName(cfg.Policy) != policyName(old.Policy)
	c.cfg.Store(&cfg)
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
