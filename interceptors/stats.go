package interceptors

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// Traffic is what moved in one direction.
type Traffic struct {
	// Messages counts every message, schemas and dictionaries included.
	Messages int64
	// Rows counts the rows of record batches.
	Rows int64
	// Bytes counts what was on the wire before gRPC's framing.
	Bytes int64
	// Uncompressed is Bytes with what compressed bodies claimed to be in their place.
	Uncompressed int64
}

func (t *Traffic) add(o Traffic) {
	t.Messages += o.Messages
	t.Rows += o.Rows
	t.Bytes += o.Bytes
	t.Uncompressed += o.Uncompressed
}

// ClassStats sums the calls of one class since the start, open ones included.
type ClassStats struct {
	Class Class
	// Started = Completed + Failed + Cancelled + Active.
	Started, Completed, Failed, Cancelled, Active int64
	// Rejected counts rejections, of calls at their start and of messages.
	Rejected int64
	Received Traffic
	Sent     Traffic
	// InFlight is what is being handled or sent at this moment.
	InFlight flowcontrol.Cost
	// Busy, Blocked, Idle and Throttled divide the time of the calls: in the
	// handler, in SendMsg, in RecvMsg, and waiting at the gate. Where a call sends
	// and receives in two goroutines, Busy is what remains, never below 0.
	Busy, Blocked, Idle, Throttled time.Duration
}

// TenantStats is what one tenant holds and did.
type TenantStats struct {
	Tenant string
	// Active counts its open calls, Streams those of them that are streams.
	Active, Streams int64
	Started         int64
	// Rejected counts the rejections of its calls and messages, and Rejections
	// has an entry for each class and reason that was seen, sorted.
	Rejected   int64
	Rejections []Rejection
	Received   Traffic
	Sent       Traffic
	// InFlight is what is being handled or sent for it at this moment.
	InFlight flowcontrol.Cost
}

// A Rejection counts rejections by class and reason.
type Rejection struct {
	Class  Class
	Reason Reason
	Count  int64
}

// A Failure counts the calls that failed with one code.
type Failure struct {
	// Code is none but OK and Canceled, and one that gRPC does not define is Unknown.
	Code  codes.Code
	Count int64
}

// Stats is a snapshot. All sums are since the start.
type Stats struct {
	// ActiveStreams are open now; PeakActiveStreams is the most of the last 10 to 20 seconds.
	ActiveStreams, PeakActiveStreams int64
	// MaxActiveStreams is the limit; 0 is none.
	MaxActiveStreams int64
	// ActiveCalls counts unary calls and streams.
	ActiveCalls int64
	// InFlight sums the classes.
	InFlight flowcontrol.Cost
	Draining bool
	// OldestStream is how long the oldest open stream has been open.
	OldestStream time.Duration
	// Classes has an entry for each class that was seen, in their order.
	Classes []ClassStats
	// Rejections has an entry for each class and reason that was seen, sorted.
	Rejections []Rejection
	// Failures has an entry for each code that was seen, in their order. They
	// add up to the Failed of the classes.
	Failures []Failure
	// Tenants has an entry for each tenant that is remembered, sorted by name.
	Tenants []TenantStats
	// Abandoned counts streams that nobody held any more and that were cancelled (client).
	Abandoned int64
	// Retried counts the calls that were tried again because of a RetryInfo (client).
	Retried int64
}

// Class returns the entry of one class, zero when it was not seen.
func (s Stats) Class(c Class) ClassStats {
	for _, e := range s.Classes {
		if e.Class == c {
			return e
		}
	}
	return ClassStats{Class: c}
}

// Rejected returns the count of one reason over all classes.
func (s Stats) Rejected(r Reason) int64 {
	n := int64(0)
	for _, e := range s.Rejections {
		if e.Reason == r {
			n += e.Count
		}
	}
	return n
}

// StreamStats is one open stream.
type StreamStats struct {
	Method string
	Class  Class
	// Tenant is empty where no key function names one.
	Tenant   string
	Age      time.Duration
	Received Traffic
	Sent     Traffic
	InFlight flowcontrol.Cost
	// Busy, Blocked, Idle and Throttled divide its Age, as in [ClassStats].
	Busy, Blocked, Idle, Throttled time.Duration
}

// streamStats lists the open streams, the oldest first.
func (c *core) streamStats() []StreamStats {
	var list []StreamStats
	c.each(func(cl *call) {
		if !cl.stream || !cl.admitted.Load() || cl.isOver() {
			return
		}
		var sum ClassStats
		cl.addTo(&sum)
		s := StreamStats{
			Method: cl.method.name, Class: cl.kind(), Age: time.Duration(cl.now()),
			Received: sum.Received, Sent: sum.Sent, InFlight: cl.inFlight(),
			Busy: sum.Busy, Blocked: sum.Blocked, Idle: sum.Idle, Throttled: sum.Throttled,
		}
		if cl.tenant != nil {
			s.Tenant = cl.tenant.name
		}
		list = append(list, s)
	})
	slices.SortFunc(list, func(a, b StreamStats) int { return cmp.Compare(b.Age, a.Age) })
	return list
}

func (c *core) stats() Stats {
	s := Stats{MaxActiveStreams: max(c.maxStreams, 0)}
	now := c.at(time.Now())
	c.mu.Lock()
	open := slices.Clone(c.open)
	sums, failed := c.totals, c.failed
	s.ActiveCalls, s.ActiveStreams = c.calls, c.streams.n
	s.PeakActiveStreams = c.peak.read(now, c.streams.n)
	s.Draining = c.draining
	c.mu.Unlock()

	// A call that ends meanwhile is counted once: as the open one that it was.
	for _, cl := range open {
		if !cl.admitted.Load() {
			continue
		}
		class := &sums[cl.kind()]
		cl.addTo(class)
		class.Started++
		class.Active++
		in := cl.inFlight()
		class.InFlight = class.InFlight.Add(in)
		s.InFlight = s.InFlight.Add(in)
		if cl.stream {
			s.OldestStream = max(s.OldestStream, time.Duration(cl.age()))
		}
	}
	for code, n := range failed {
		if n > 0 {
			s.Failures = append(s.Failures, Failure{codes.Code(code), n})
		}
	}
	s.Rejections = c.rejections.read()
	for _, r := range s.Rejections {
		sums[r.Class].Rejected += r.Count
	}
	for class := range classes {
		if sums[class].Started == 0 && sums[class].Rejected == 0 {
			continue
		}
		sums[class].Class = class
		s.Classes = append(s.Classes, sums[class])
	}
	return s
}
