package backpressure

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// external is a signal that came from outside, with its age: at is when it was made,
// as a duration since the controller's base.
type external struct {
	signal Signal
	at     time.Duration
}

// SendSignal takes a signal from outside: of a component that knows its
// limits better, or an operator. The paths of the service that it names, all
// paths if the service is unknown, admit no more than its fraction. A signal is
// stale after three intervals, then moves to the safe fraction if that is
// higher over three more, and is dropped after twelve; a newer one of the same
// service replaces it, and one with fraction 1 ends it. To hold a pipeline down,
// repeat the signal: a sender that dies must not hold it down for ever.
//
// The fraction may lie below Config.Floor; what is admitted does not. As with
// [Controller.Report] the decision is delivered before SendSignal returns, and an
// error is an [*Error] and changes nothing.
func (c *Controller) SendSignal(s Signal) error {
	c.mu.Lock()
	cfg := c.cfg.Load()
	if e := c.checkSignalLocked(cfg, &s); e != nil {
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
	changed := c.combineLocked()
	c.mu.Unlock()
	if changed {
		c.deliver(c)
	}
	return nil
}

func (c *Controller) checkSignalLocked(cfg *Config, s *Signal) *Error {
	if e := checkID("ServiceID", s.ServiceID); e != nil {
		return e
	}
	if !(s.Fraction >= 0 && s.Fraction <= 1) {
		return &Error{
			Reason: BadNumber, ServiceID: shorten(s.ServiceID), Field: "Fraction",
			Value: formatFloat(s.Fraction), Want: "0 to 1",
		}
	}
	if !(s.Load >= 0 && s.Load <= maxLoad) {
		return &Error{
			Reason: BadNumber, ServiceID: shorten(s.ServiceID), Field: "Load",
			Value: formatFloat(s.Load), Want: "0 to " + strconv.Itoa(maxLoad),
		}
	}
	if !s.Time.IsZero() {
		if e := cfg.checkTime(s.ServiceID, s.Time, time.Now); e != nil {
			return e
		}
	}
	if _, known := c.external[s.ServiceID]; !known && len(c.external) >= cfg.MaxServices {
		return &Error{Reason: TooMany, ServiceID: shorten(s.ServiceID), Field: "signals", Value: "at their limit"}
	}
	return nil
}

// allows is what a signal of this age still asks for. A signal above the safe fraction
// stays where it is until it is dropped: age is a reason to open, never to close.
func (e *external) allows(cfg *Config, now time.Duration) float64 {
	return Aged(max(e.signal.Fraction, cfg.Floor), max(e.signal.Fraction, cfg.SafeFraction), now-e.at, cfg.staleAfter())
}

// Aged is what is left of a fraction at an age: itself while fresh, safe from
// twice staleAfter on, and between them on a straight line. It is how signals age
// here, and how an agent's last signal ages while its control plane is away, so that
// both ends of a broken connection expect the same.
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

// ageLocked drops signals that are not repeated, and lets the others age.
func (c *Controller) ageLocked(now time.Duration) {
	if len(c.external) == 0 {
		return
	}
	stale := c.cfg.Load().staleAfter()
	for id, e := range c.external {
		if now-e.at > 4*stale {
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
		p.cap, p.capReason = 1, ""
	}
	lower := func(p *path, e *external, f float64) {
		if f < p.cap {
			p.cap, p.capReason = f, e.signal.Reason
		}
	}
	for id, e := range c.external {
		f := e.allows(c.cfg.Load(), now)
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

// Fraction returns what the pipeline admits, from Config.Floor to 1: the least of its
// paths. A component that is on one of them asks [Controller.FractionFor].
func (c *Controller) Fraction() float64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.fraction
}

// Active reports whether backpressure is on, on any path, or a signal from outside
// limits one.
func (c *Controller) Active() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.active
}

// FractionFor returns what one service should admit. An entry admits what its
// path does. A stage that several paths cross follows the one that is throttled
// least: the entries of the others do the shaping, and a stage that followed
// the worst would slow paths that have no problem. An unknown service, or "",
// gets the pipeline's fraction.
func (c *Controller) FractionFor(id string) float64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if s := c.services[id]; s != nil {
		return c.admittedLocked(s)
	}
	return c.fraction
}

// admittedLocked is what s should admit. While the controller learns that is
// what it says that it admits: another fraction would release the pipeline.
func (c *Controller) admittedLocked(s *service) float64 {
	if !c.learning {
		return s.path().effective()
	}
	if f := s.report.Fraction; f > 0 {
		return f
	}
	return 1
}

// SignalFor returns the present signal for one service, or for the pipeline
// when id is "" or unknown: that of the path that admits least. Its ServiceID names
// the fullest stage there, which is what an operator wants to look at.
func (c *Controller) SignalFor(id string) Signal {
	c.mu.RLock()
	defer c.mu.RUnlock()
	cfg, s := c.cfg.Load(), c.services[id]
	var p *path
	if s != nil {
		p = s.path()
	} else {
		p = narrowest(c.paths)
	}
	signal := Signal{
		Fraction: p.effective(), Active: p.limited(),
		Load: max(p.driving(cfg.Driver), wholeLoad(cfg, c.inFlight)), Time: c.base.Add(c.now()),
	}
	if worst := p.loads.worst(); worst != nil {
		signal.ServiceID = worst.id
	}
	switch {
	case c.learning:
		signal.Fraction = c.fraction
		if s != nil {
			signal.Fraction = c.admittedLocked(s)
		}
		signal.Active = signal.Fraction < 1
		signal.Reason = "learning"
	case p.cap < p.fraction:
		signal.Reason = p.capReason
	default:
		signal.Reason = p.describe(cfg, signal.Load, signal.Active)
	}
	return signal
}

// narrowest is the path that admits least.
func narrowest(paths []*path) *path {
	best := paths[0]
	for _, p := range paths[1:] {
		a, b := p.effective(), best.effective()
		if a < b || a == b && p.limited() && !best.limited() {
			best = p
		}
	}
	return best
}

// A description says why a path is as it is.
type description struct {
	percent              float64
	active               bool
	activation, recovery float64
	text                 string
}

// describe says why p is as it is. Thousands may ask after each change, under
// the shared lock, so the text is made once.
func (p *path) describe(cfg *Config, load float64, active bool) string {
	d := description{percent: math.Round(100 * load), active: active, activation: cfg.Activation, recovery: cfg.Recovery}
	if last := p.text.Load(); last != nil {
		if d.text = last.text; d == *last {
			return d.text
		}
	}
	if active {
		d.text = fmt.Sprintf("load %.2f, active from %.2f down to %.2f", d.percent/100, d.activation, d.recovery)
	} else {
		d.text = fmt.Sprintf("load %.2f, below %.2f", d.percent/100, d.activation)
	}
	p.text.Store(&d)
	return d.text
}

// printable makes text from outside fit for logs and pages: at most that many bytes,
// and a question mark for every character that has no shape.
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
