package interceptors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/withobsrvr/sluice/flowcontrol"
)

// ending is how a call ended: the code that its peer was told, or told.
type ending codes.Code

const (
	endedWell      = ending(codes.OK)
	endedCancelled = ending(codes.Canceled)
	endedFailed    = ending(codes.Unknown)
	endings        = codes.Unauthenticated + 1
)

func (e ending) failed() bool { return e != endedWell && e != endedCancelled }

// endingOf counts a code that gRPC does not define as Unknown.
func endingOf(err error) ending {
	if err == nil {
		return endedWell
	}
	if e, ok := err.(*Error); ok && e.Code < endings {
		return ending(e.Code)
	}
	code := status.Code(err)
	if code == codes.Unknown {
		code = status.FromContextError(err).Code() // what gRPC makes of a context's bare error
	}
	switch {
	case code == codes.Canceled || errors.Is(err, context.Canceled):
		return endedCancelled
	case code < endings && code != codes.OK:
		return ending(code)
	}
	return endedFailed
}

// outcome is what the work's end says about load: a client
// that leaves says nothing, a deadline or an overload below says "too much".
func outcome(err error) flowcontrol.Outcome {
	if err == nil {
		return flowcontrol.Success
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return flowcontrol.Dropped
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded, codes.ResourceExhausted, codes.Unavailable:
		return flowcontrol.Dropped
	}
	return flowcontrol.Ignored
}

// lateness is outcome for a call with a deadline: work that ended after it, or
// when the client gave up because of it, came too late, whatever the handler
// says. The client's deadline is the earlier one, and its cancellation arrives
// before the server's own timer fires.
func lateness(ctx context.Context, start time.Time, err error) flowcontrol.Outcome {
	if ctx.Err() != nil {
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= deadline.Sub(start)/10 {
			return flowcontrol.Dropped
		}
	}
	return outcome(err)
}

// core is what a Server and a Client have in common.
type core struct {
	throttler         Gate
	gate              any // throttler where it can be compared, to recognize nested calls
	maxStreams        int64
	guards            Guards
	harmless          int64 // see setGuards
	weighUncompressed bool
	codes             Codes
	pushback          Pushback
	maxMessageWait    time.Duration
	maxMessageHold    time.Duration
	stallTimeout      time.Duration
	sparesReaders     bool // the watchdog leaves calls alone whose RecvMsg waits too
	policy            [classes]Policy
	exempt            []string
	log               *slog.Logger
	epoch             time.Time

	methods sync.Map // full method -> *method
	known   atomic.Int32

	rejections rejections
	watchdog   watchdog

	// mu guards what follows. It is held for a few instructions, and by a reader
	// while it copies the list of open calls.
	mu       sync.Mutex
	open     []*call // those that Drain and the watchdog find
	calls    int64   // every call that is not exempt
	streams  slots
	peak     peak // of streams
	totals   [classes]ClassStats
	failed   [endings]int64
	draining bool
	drained  chan struct{} // closed when calls reached 0 while draining
}

func (c *core) setPolicies(of func(Class) Policy) {
	for class := range classes {
		p := PolicyDefault
		if of != nil {
			p = of(class)
		}
		if p == PolicyDefault {
			p = PolicyAdmitted
			if class.Bulk() {
				p = PolicyPaced
			}
		}
		c.policy[class] = p
	}
}

// maxMethods are remembered: a server with an UnknownServiceHandler, a proxy,
// is called by every name that its clients make up.
const maxMethods = 1024

// method returns what is known of a method by its name.
func (c *core) method(name string, clientStream, serverStream bool) *method {
	if m, ok := c.methods.Load(name); ok {
		return m.(*method)
	}
	m := newMethod(name, clientStream, serverStream)
	m.exempt = exempted(name, alwaysExempt) || exempted(name, c.exempt)
	if c.known.Load() >= maxMethods {
		return m // parsed anew each time, which is slow and bounded
	}
	actual, loaded := c.methods.LoadOrStore(name, m)
	if !loaded {
		c.known.Add(1)
	}
	return actual.(*method)
}

func (c *core) newCall(m *method, stream bool) *call {
	cl := &call{core: c, method: m, start: time.Now(), stream: stream}
	cl.class.Store(uint32(m.class))
	return cl
}

// at is t on the core's clock.
func (c *core) at(t time.Time) time.Duration { return t.Sub(c.epoch) }

// remaining is the time from start to the context's deadline, 0 where it has none.
func remaining(ctx context.Context, start time.Time) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(deadline.Sub(start), 0)
}

// begin takes the call's slots, or says why there is none. What it took, close
// gives back. A stream takes its slot before it waits for the gate: the wait is
// what the limit of streams bounds too.
func (c *core) begin(ctx context.Context, cl *call) *Error {
	now := c.at(cl.start)
	c.mu.Lock()
	if c.draining {
		c.mu.Unlock()
		return cl.describe(c.shutdown())
	}
	if cl.stream {
		if c.maxStreams > 0 && c.streams.n >= c.maxStreams {
			hint := c.streams.hint(now, remaining(ctx, cl.start))
			c.mu.Unlock()
			return cl.describe(&Error{
				Reason: ReasonActiveStreams, Code: c.codes.Overload,
				RetryAfter: c.pushback.delay(hint), Detail: "too many open streams",
			})
		}
		c.streams.take(now)
		c.peak.note(now, c.streams.n)
	}
	c.calls++
	c.mu.Unlock()
	return nil
}

// shutdown is the rejection of a server or client that drains.
func (c *core) shutdown() *Error {
	return &Error{
		Reason: ReasonDraining, Code: c.codes.Draining,
		RetryAfter: c.pushback.delay(0), Detail: "the server is shutting down",
	}
}

// enlist makes a call visible to Drain, the watchdog and, once it is admitted, to Stats.
func (c *core) enlist(cl *call) {
	c.mu.Lock()
	cl.index, cl.listed = len(c.open), true
	c.open = append(c.open, cl)
	c.mu.Unlock()
	if cl.stream {
		c.watch()
	}
}

// close ends the call's bookkeeping; only the first close counts. It reports
// whether this was it.
func (c *core) close(cl *call, end ending) bool {
	// The end's time is fixed first. From then on addTo counts no time any more, so a
	// snapshot that was begun before agrees with the sums that are made here.
	if !cl.over.CompareAndSwap(0, cl.now()+1) {
		return false
	}
	now := c.at(cl.start) + time.Duration(cl.over.Load()-1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if cl.listed {
		last := c.open[len(c.open)-1]
		c.open[cl.index], last.index = last, cl.index
		c.open[len(c.open)-1] = nil
		c.open = c.open[:len(c.open)-1]
		cl.listed = false
	}
	if cl.stream {
		c.peak.note(now, c.streams.n) // before: a peak that lasted until now is one
		c.streams.release(c.at(cl.start), now, cl.admitted.Load())
	}
	if cl.admitted.Load() {
		c.sumLocked(cl, end)
	}
	c.calls--
	if c.calls == 0 && c.drained != nil {
		close(c.drained)
		c.drained = nil
	}
	return true
}

// sumLocked adds a call that has ended to the sums.
func (c *core) sumLocked(cl *call, end ending) {
	total := &c.totals[cl.kind()]
	cl.addTo(total)
	total.Started++
	switch end {
	case endedWell:
		total.Completed++
	case endedCancelled:
		total.Cancelled++
	default:
		total.Failed++
		c.failed[end]++
	}
}

// countRejection counts a rejection, for its tenant too where it has one.
func (c *core) countRejection(t *tenant, e *Error) {
	c.rejections.count(e)
	if t != nil {
		t.rejections.count(e)
	}
}

// each calls f for every open call, outside every lock.
func (c *core) each(f func(*call)) {
	c.mu.Lock()
	open := slices.Clone(c.open)
	c.mu.Unlock()
	for _, cl := range open {
		f(cl)
	}
}

func (c *core) openStreams() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams.n
}

func (c *core) openCalls() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}
