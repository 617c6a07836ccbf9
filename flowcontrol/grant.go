package flowcontrol

import "math"

// grant hands free room to those who wait.
func (q *queue) grant() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.grantLocked(q.owner.settings.Load(), q.owner.now())
}

func (q *queue) grantLocked(s *settings, now int64) {
	standing := q.standingLocked(s, now)
	limit, home := q.owner.limit(s), q.owner.stripes.mine()
	blocked := math.MaxInt // how many more may pass a larger waiter
	if standing {
		q.expireLocked(s, now)
	}
	for level := range q.levels {
		for each := q.cursorLocked(level, standing); ; {
			w := each.next()
			if w == nil {
				break
			}
			if blocked <= 0 {
				return
			}
			if w.key != nil && !w.key.join(q.owner, w.cost, limit) {
				continue // others of the line are not held up by its share
			}
			fit, _, _ := fitting(s, w.cost, limit)
			p, _, ok := q.owner.flight.acquire(home, fit, limit)
			if !ok {
				w.key.leave(w.cost.Messages)
				if fit.Messages <= 1 && fit.Rows == 0 && fit.Bytes == 0 {
					return // nothing smaller can follow
				}
				blocked = min(blocked, max(0, s.cfg.Queue.Passes)-w.passed)
				continue
			}
			if blocked != math.MaxInt {
				blocked--
				q.passLocked(w)
			}
			q.answerLocked(w, q.owner.begin(s, p, w.key, now), ReasonNone, now)
		}
	}
}

// expireLocked refuses, under standing overload, who has waited too long.
func (q *queue) expireLocked(s *settings, now int64) {
	for level := range q.levels {
		var next *waiter
		for w := q.levels[level].codel.first; w != nil && now-w.since > int64(s.cfg.Queue.Target); w = next {
			next = w.next
			q.answerLocked(w, Permit{}, ReasonQueueTimeout, now)
			q.lastDrop, q.dropped = now, true
		}
	}
}

// passLocked counts a pass against everyone who was there before w and still
// waits, at w's priority or above.
func (q *queue) passLocked(w *waiter) {
	q.allLocked(func(o *waiter) bool {
		if o.level <= w.level && o.since <= w.since && o != w {
			o.passed++
		}
		return true
	})
}

// A cursor goes through the waiters of one level in the order of service: as
// they came, and under standing overload in turns, the newest of those who may
// be dropped and the oldest of those who may not.
type cursor struct {
	q              *queue
	ordered, codel *waiter
	standing       bool
}

func (q *queue) cursorLocked(level int, standing bool) cursor {
	l := &q.levels[level]
	c := cursor{q: q, ordered: l.ordered.first, codel: l.codel.first, standing: standing}
	if standing {
		c.codel = l.codel.last
	}
	return c
}

func (c *cursor) next() *waiter {
	w := c.ordered
	switch {
	case c.codel == nil:
	case c.ordered == nil, c.standing && c.q.turn, !c.standing && c.codel.since < c.ordered.since:
		w = c.codel
	}
	if w == nil {
		return nil
	}
	c.q.turn = !w.codel
	switch {
	case !w.codel:
		c.ordered = w.next
	case c.standing:
		c.codel = w.prev
	default:
		c.codel = w.next
	}
	return w
}

func (q *queue) answerLocked(w *waiter, p Permit, r Reason, now int64) {
	q.removeLocked(w, now)
	w.permit, w.reason = p, r
	w.ready <- struct{}{} // has room for one, and there is only one
}

// overtake takes room for a caller who will not wait, if those who wait are
// waiting for more room than there is and may still be passed.
func (q *queue) overtake(home *stripe, c, limit Cost) (Permit, Weight, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	passes, barred := q.owner.settings.Load().cfg.Queue.Passes, false
	q.allLocked(func(w *waiter) bool {
		barred = w.passed >= passes || w.cost.Messages <= c.Messages && w.cost.Rows <= c.Rows && w.cost.Bytes <= c.Bytes
		return !barred
	})
	if barred {
		return Permit{}, Messages, false
	}
	p, w, ok := q.owner.flight.acquire(home, c, limit)
	if ok {
		q.allLocked(func(w *waiter) bool { w.passed++; return true })
	}
	return p, w, ok
}
