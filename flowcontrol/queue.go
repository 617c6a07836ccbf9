package flowcontrol

import (
	"container/heap"
	"container/list"
)

// A lane is the waiting calls of one tenant in one class of one priority, in
// order of arrival: a walk passes a tenant that may not go in one step.
type lane struct {
	waiters list.List // of *waiter
	next    *list.Element
	index   int // in its queue's heap; -1 = not there
	touched bool
	// holding is why the walk of that number passed all of it.
	holding Reason
	walk    uint64
}

// A queue is the lanes of one class of one priority, as a heap by the arrival
// of their next waiters: the oldest on top, or the newest.
type queue struct {
	lanes   []*lane // those with a next waiter
	newest  bool
	touched []*lane // by this walk
}

func (q *queue) Len() int { return len(q.lanes) }
func (q *queue) Less(i, j int) bool {
	a, b := q.lanes[i].next.Value.(*waiter).seq, q.lanes[j].next.Value.(*waiter).seq
	return a < b != q.newest
}

func (q *queue) Swap(i, j int) {
	q.lanes[i], q.lanes[j] = q.lanes[j], q.lanes[i]
	q.lanes[i].index, q.lanes[j].index = i, j
}

func (q *queue) Push(x any) {
	l := x.(*lane)
	l.index = len(q.lanes)
	q.lanes = append(q.lanes, l)
}

func (q *queue) Pop() any {
	l := q.lanes[len(q.lanes)-1]
	q.lanes = q.lanes[:len(q.lanes)-1]
	l.index = -1
	return l
}

// peek returns the next waiter, or nil.
func (q *queue) peek() *waiter {
	if len(q.lanes) == 0 {
		return nil
	}
	return q.lanes[0].next.Value.(*waiter)
}

// first is the element of the lane that is served first.
func (q *queue) first(l *lane) *list.Element {
	if q.newest {
		return l.waiters.Back()
	}
	return l.waiters.Front()
}

func (q *queue) after(e *list.Element) *list.Element {
	if q.newest {
		return e.Prev()
	}
	return e.Next()
}

// move sets where the lane goes on, and keeps the heap.
func (q *queue) move(l *lane, next *list.Element) {
	l.next = next
	switch {
	case next == nil && l.index >= 0:
		heap.Remove(q, l.index)
	case next != nil && l.index < 0:
		heap.Push(q, l)
	case next != nil:
		heap.Fix(q, l.index)
	}
}

// skip goes past w in this walk, and skipLane past all of its lane.
func (q *queue) skip(w *waiter) { q.leaveFor(w.lane, q.after(w.element)) }

func (q *queue) skipLane(w *waiter) {
	w.lane.holding, w.lane.walk = w.holding, w.walk
	q.leaveFor(w.lane, nil)
}

func (q *queue) leaveFor(l *lane, next *list.Element) {
	if !l.touched {
		l.touched = true
		q.touched = append(q.touched, l)
	}
	q.move(l, next)
}

// restart ends a walk: each lane begins at its first waiter again.
func (q *queue) restart() {
	for _, l := range q.touched {
		l.touched = false
		q.move(l, q.first(l))
	}
	q.touched = q.touched[:0]
}

// turnAround serves the newest first, or the oldest.
func (q *queue) turnAround(newest bool) {
	if q.newest == newest {
		return
	}
	q.newest = newest
	for _, l := range q.lanes {
		l.next = q.first(l)
	}
	heap.Init(q)
}

// looks is a heap of the waiters whose time ends, by when.
type looks []*waiter

func (h looks) Len() int           { return len(h) }
func (h looks) Less(i, j int) bool { return h[i].look < h[j].look }
func (h looks) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].lookIndex, h[j].lookIndex = i, j
}

func (h *looks) Push(x any) {
	w := x.(*waiter)
	w.lookIndex = len(*h)
	*h = append(*h, w)
}

func (h *looks) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	w.lookIndex = -1
	return w
}
