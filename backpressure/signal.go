package backpressure

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// external is a signal that came from outside, with its age.
type external struct {
	signal Signal
	at     time.Duration
}

// SendSignal takes a signal that somebody else made: a component that knows its
// limits better, or an operator. The paths of the service that it names, all
// paths if the service is unknown, admit no more than its fraction. A signal is
// stale after three intervals, then moves to the safe fraction if that is
// higher over three more, and is dropped after twelve; a newer one of the same
// service replaces it, and one with fraction 1 ends it.
func (c *Controller) SendSignal(s Signal) error {
	c.mu.Lock()
	if e := c.checkSignalLocked(&s); e != nil {
		c.mu.Unlock()
		return c.reject(e)
	}
	now := c.now()
	at := now
	if s.Time.IsZero() {
		s.Time = c.base.Add(now)
	} else {
		at = min(now, s.Time.Sub(c.base)) // an old signal is old on arrival
	}
	s.Reason = printable(s.Reason, 256)
	if s.Fraction == 1 {
		delete(c.external, s.ServiceID)
	} else {
		c.external[s.ServiceID] = &external{signal: s, at: at}
	}
	c.capLocked(now)
	c.armLocked()
	changed := c.publishLocked()
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return nil
}

func (c *Controller) checkSignalLocked(s *Signal) *Error {
	if e := checkID("ServiceID", s.ServiceID); e != nil {
		return e
	}
	if !(s.Fraction >= 0 && s.Fraction <= 1) {
		return &Error{Reason: BadNumber, ServiceID: shorten(s.ServiceID), Field: "Fraction", Value: formatFloat(s.Fraction), Want: "0 to 1"}
	}
	if !(s.Load >= 0 && s.Load <= maxLoad) {
		return &Error{Reason: BadNumber, ServiceID: shorten(s.ServiceID), Field: "Load", Value: formatFloat(s.Load), Want: "0 to " + strconv.Itoa(maxLoad)}
	}
	if !s.Time.IsZero() {
		if e := c.cfg.checkTime(s.ServiceID, s.Time, time.Now); e != nil {
			return e
		}
	}
	if _, known := c.external[s.ServiceID]; !known && len(c.external) >= c.cfg.MaxServices {
		return &Error{Reason: TooMany, ServiceID: shorten(s.ServiceID), Field: "signals", Value: "at their limit"}
	}
	return nil
}

// allows is what a signal of this age still asks for.
func (e *external) allows(cfg *Config, now time.Duration) float64 {
	return Aged(max(e.signal.Fraction, cfg.Floor), max(e.signal.Fraction, cfg.SafeFraction), now-e.at, cfg.staleAfter())
}

// Aged is what is left of a fraction at an age: itself while fresh, safe from
// twice staleAfter on, and between them on a straight line.
func Aged(fraction, safe float64, age, staleAfter time.Duration) float64 {
	switch {
	case age <= staleAfter:
		return fraction
	case age >= 2*staleAfter:
		return safe
	default:
		return fraction + (safe-fraction)*float64(age-staleAfter)/float64(staleAfter)
	}
}

// ageLocked drops signals that nobody repeats.
func (c *Controller) ageLocked(now time.Duration) {
	if len(c.external) == 0 {
		return
	}
	for id, e := range c.external {
		if now-e.at > 4*c.cfg.staleAfter() {
			delete(c.external, id)
		}
	}
	c.capLocked(now)
}

// capLocked works out what the signals from outside leave of each path.
func (c *Controller) capLocked(now time.Duration) {
	before := make([]float64, len(c.paths))
	for i, p := range c.paths {
		before[i] = p.cap
		p.cap, p.reason = 1, ""
	}
	lower := func(p *path, e *external, f float64) {
		if f < p.cap {
			p.cap, p.reason = f, e.signal.Reason
		}
	}
	for id, e := range c.external {
		f := e.allows(&c.cfg, now)
		if s := c.services[id]; s != nil {
			for _, m := range s.members {
				lower(m.path, e, f)
			}
			continue
		}
		for _, p := range c.paths {
			lower(p, e, f)
		}
	}
	for i, p := range c.paths {
		p.changed = p.changed || p.cap != before[i]
	}
}

// Fraction returns what the pipeline admits, 0..1: the least of its paths.
func (c *Controller) Fraction() float64 { return math.Float64frombits(c.fraction.Load()) }

// Active reports whether backpressure is on, on any path.
func (c *Controller) Active() bool { return c.active.Load() }

// FractionFor returns what one service should admit. An entry admits what its
// path does. A stage that several paths cross follows the one that is throttled
// least: the entries of the others do the shaping, and a stage that followed
// the worst would slow paths that have no problem. An unknown service, or "",
// gets the pipeline's fraction.
func (c *Controller) FractionFor(id string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fractionForLocked(id)
}

func (c *Controller) fractionForLocked(id string) float64 {
	s := c.services[id]
	if s == nil {
		return c.Fraction()
	}
	if c.learning {
		if s.report.Fraction > 0 {
			return s.report.Fraction
		}
		return 1
	}
	return s.path().effective()
}

// path is the one that the service follows.
func (s *service) path() *path {
	best := s.members[0].path
	for _, m := range s.members[1:] {
		if m.path.effective() > best.effective() {
			best = m.path
		}
	}
	return best
}

// SignalFor returns the present signal for one service, or for the pipeline
// when id is "" or unknown.
func (c *Controller) SignalFor(id string) Signal {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signalLocked(id)
}

func (c *Controller) signalLocked(id string) Signal {
	p := c.paths[0]
	if s := c.services[id]; s != nil {
		p = s.path()
	} else {
		for _, q := range c.paths[1:] {
			if q.effective() < p.effective() || q.effective() == p.effective() && q.active && !p.active {
				p = q
			}
		}
	}
	sig := Signal{Load: p.load, Fraction: c.fractionForLocked(id), Active: p.active || p.cap < 1, Time: c.base.Add(c.now())}
	if s := p.worst.max(); s != nil {
		sig.ServiceID = s.report.ServiceID
	}
	switch {
	case c.learning:
		sig.Active = sig.Fraction < 1
		sig.Reason = "learning"
	case p.cap < p.fraction:
		sig.Reason = p.reason
	default:
		sig.Reason = c.describeLocked(p)
	}
	return sig
}

// describeLocked says why p is as it is. Thousands may ask after each change,
// so the text is made once.
func (c *Controller) describeLocked(p *path) string {
	if p.text == "" || p.described != p.last {
		p.described = p.last
		if p.active {
			p.text = fmt.Sprintf("load %.2f, active from %.2f down to %.2f", p.load, c.cfg.Activation, c.cfg.Recovery)
		} else {
			p.text = fmt.Sprintf("load %.2f, below %.2f", p.load, c.cfg.Activation)
		}
	}
	return p.text
}

// printable makes text from outside fit for logs and pages.
func printable(s string, most int) string {
	if len(s) > most {
		s = s[:most]
	}
	out := make([]rune, 0, len(s))
	for _, r := range s {
		if !strconv.IsPrint(r) {
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
