package interceptors

import (
	"sync"
	"sync/atomic"
	"time"
)

// shards keep the bookkeeping of many short calls apart.
const shards = 8

// A shard holds the calls that are open, and the sums of those that ended. A
// call's own goroutine only lays it on a stack, at its start and at its end, so
// that it never waits for a reader however long the list is; whoever reads the
// books brings them up to date first. Both stacks change hands under the lock of
// the books, so a reader counts no call twice and misses none.
type shard struct {
	begun stack // linked by next
	done  stack // linked by after
	// backlog counts what lies in done, roughly.
	backlog atomic.Int32

	mu     sync.Mutex // guards what follows; calls only try it
	index  int
	open   *call
	totals [classes]ClassStats
	failed [endings]int64
	_      [64]byte
}

// enough is how many calls that are over wait for the next reader. Then the last
// of them settles the books, so that they hold no memory when nobody reads.
const enough = 16

// A stack takes calls from many goroutines and gives them all to one.
type stack struct{ top atomic.Pointer[call] }

func (s *stack) push(c *call, link **call) {
	for {
		*link = s.top.Load()
		if s.top.CompareAndSwap(*link, c) {
			return
		}
	}
}

func (s *stack) take() *call { return s.top.Swap(nil) }

func (sh *shard) add(c *call) {
	c.shard = sh
	sh.begun.push(c, &c.next)
}

// remove has the call folded into the sums, sooner or later.
func (sh *shard) remove(c *call, end ending) {
	c.ending = end
	sh.done.push(c, &c.after)
	if sh.backlog.Add(1) >= enough && sh.mu.TryLock() {
		sh.settleLocked()
		sh.mu.Unlock()
	}
}

// settleLocked brings the books up to date. What is done has begun before, so
// the stacks are taken in that order: the list has every call that leaves it.
func (sh *shard) settleLocked() {
	done := sh.done.take()
	for c := sh.begun.take(); c != nil; {
		next := c.next
		if c.next = sh.open; c.next != nil {
			c.next.prev = c
		}
		sh.open = c
		c = next
	}
	n := int32(0)
	for c := done; c != nil; n++ {
		next := c.after
		c.after = nil
		sh.closeLocked(c)
		c = next
	}
	sh.backlog.Add(-n)
}

// closeLocked folds the call into the sums, unless it was never admitted.
func (sh *shard) closeLocked(c *call) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		sh.open = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	if c.tenant != nil {
		moved := &c.tenant.moved[sh.index]
		moved.received.add(c.recv.traffic())
		moved.sent.add(c.send.traffic())
	}
	if !c.admitted.Load() {
		return
	}
	total := &sh.totals[c.kind()]
	c.addTo(total)
	total.Started++
	switch c.ending {
	case endedWell:
		total.Completed++
	case endedCancelled:
		total.Cancelled++
	default:
		total.Failed++
		sh.failed[c.ending]++
	}
}

// sum adds the shard's calls, those that are open included.
func (sh *shard) sum(sums *[classes]ClassStats, failed *[endings]int64, s *Stats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.settleLocked()
	for code, n := range sh.failed {
		failed[code] += n
	}
	for class := range classes {
		sums[class].add(&sh.totals[class])
	}
	for c := sh.open; c != nil; c = c.next {
		if !c.admitted.Load() {
			continue
		}
		class := &sums[c.kind()]
		c.addTo(class)
		class.Started++
		class.Active++
		in := c.inFlight()
		class.InFlight = class.InFlight.Add(in)
		s.InFlight = s.InFlight.Add(in)
		if c.stream {
			s.OldestStream = max(s.OldestStream, time.Duration(c.age()))
		}
	}
}

// sumTenants adds what the calls of each tenant moved.
func (sh *shard) sumTenants(sums map[*tenant]*TenantStats) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.settleLocked()
	for t, sum := range sums {
		sum.Received.add(t.moved[sh.index].received)
		sum.Sent.add(t.moved[sh.index].sent)
	}
	for c := sh.open; c != nil; c = c.next {
		if sum := sums[c.tenant]; sum != nil {
			sum.Received.add(c.recv.traffic())
			sum.Sent.add(c.send.traffic())
			sum.InFlight = sum.InFlight.Add(c.inFlight())
		}
	}
}

// list appends the calls that are open.
func (sh *shard) list(open []*call) []*call {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.settleLocked()
	for c := sh.open; c != nil; c = c.next {
		open = append(open, c)
	}
	return open
}
