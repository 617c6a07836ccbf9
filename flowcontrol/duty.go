package flowcontrol

import (
	"math"
	"time"
)

// A duty slows the waiting verbs to a fraction f of their unthrottled
// throughput, whatever the work costs and however many workers there are.
//
// Unthrottled, everyone who wants to work does: n that work and w that wait, up
// to the in-flight limit. Throttled, the time that is worked should be f times
// that. So it keeps the difference of the two integrals,
//
//	debt = ∫ (n - f * min(n + w, limit)) dt
//
// and admits the next call when there is no debt and fewer than f times the
// possible number work. For one worker and items of d this is a rest of
// d*(1/f - 1) after each item; the service time is never estimated.
type duty struct {
	working int     // calls of the waiting verbs that were admitted and are not done
	debt    float64 // in call-nanoseconds
	at      int64   // up to where debt is integrated
	wanted  float64 // how many wanted to work when last anyone did
	unheld  []int64 // starts of paced work that holds no permit, oldest first
}

const (
	// dutyCredit is how much of a late timer is caught up with.
	dutyCredit = float64(20 * time.Millisecond)
	// dutyRest bounds the rest after work that took very long.
	dutyRest = float64(30 * time.Second)
	// dutyUnheld bounds the work that a Pace, which holds no permit, stands for.
	dutyUnheld = int64(250 * time.Millisecond)
)

// start begins the integral, when the fraction falls below 1.
func (d *duty) start(now int64) { d.at, d.debt, d.wanted = now, 0, 0 }

// stop forgets it, when the fraction is 1 again.
func (d *duty) stop() {
	d.working -= len(d.unheld)
	d.unheld, d.debt = d.unheld[:0], 0
}

// possible is how many would work if there were no fraction.
func (d *duty) possible(waiting int, limit int64) float64 {
	return float64(min(int64(d.working+waiting), limit))
}

// advance integrates up to now, while nothing else changed.
func (d *duty) advance(now int64, f float64, waiting int, limit int64) {
	for len(d.unheld) > 0 && d.unheld[0]+dutyUnheld <= now {
		d.integrate(d.unheld[0]+dutyUnheld, f, waiting, limit)
		d.endUnheld()
	}
	d.integrate(now, f, waiting, limit)
}

func (d *duty) integrate(now int64, f float64, waiting int, limit int64) {
	dt := float64(now - d.at)
	if dt <= 0 {
		return
	}
	d.at = now
	possible := d.possible(waiting, limit)
	if possible > 0 {
		d.wanted = possible
	} else {
		possible = d.wanted // nobody wants to work: time off counts as rest
	}
	share := f * possible
	d.debt += (float64(d.working) - share) * dt
	d.debt = min(max(d.debt, -share*dutyCredit), share*dutyRest)
}

// endUnheld ends the oldest paced work.
func (d *duty) endUnheld() {
	d.unheld = d.unheld[:copy(d.unheld, d.unheld[1:])] // in place: reslicing would use the array up
	d.working--
}

// admits reports whether one more of the waiting calls may work now.
func (d *duty) admits(f float64, waiting int, limit int64) bool {
	share := f * d.possible(waiting, limit)
	switch n := float64(d.working); {
	case d.debt < -1: // behind: one more than the share catches up
		return n < share+1
	case d.debt <= 1:
		return n < share
	}
	return false
}

// due is how long until one more may go, by what is known now; 0 where only the
// end of other work changes that.
func (d *duty) due(now int64, f float64, waiting int, limit int64) (due int64) {
	if falling := f*d.possible(waiting, limit) - float64(d.working); falling > 0 {
		due = int64(max(1, min(math.Ceil(max(d.debt-1, 0)/falling), 1<<60))) // admits allows for a rest of 1
	}
	if len(d.unheld) > 0 {
		if end := max(1, d.unheld[0]+dutyUnheld-now); due == 0 || end < due {
			due = end
		}
	}
	return due
}
