package interceptors

import (
	"context"
	"errors"
	"log/slog"
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

// outcome tells the throttler what the work's end says about load: a client
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
	throttler      Gate
	maxStreams     int64
	guards         Guards
	harmless       int64 // see setGuards
	byteCost       ByteCost
	codes          Codes
	pushback       Pushback
	maxMessageWait time.Duration
	stallTimeout   time.Duration
	sparesReaders  bool // the watchdog leaves calls alone whose RecvMsg waits too
	policy         [classes]Policy
	exempt         []string
	log            *slog.Logger

	methods sync.Map // full method -> *method
	known   atomic.Int32
	next    atomic.Uint32
	shards  [shards]shard

	calls   atomic.Int64 // every call that is not exempt
	streams atomic.Int64
	peak    atomic.Int64 // of streams, since the last Stats

	watchMu  sync.Mutex
	watching bool

	rejections rejections
	draining   atomic.Bool

	mu      sync.Mutex    // guards what is below; calls take it while draining only
	drained chan struct{} // closed when calls reached 0 while draining
}

func (c *core) init() {
	for i := range c.shards {
		c.shards[i].index = i
	}
	c.rejections.init()
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
// hears of every name that its clients make up.
const maxMethods = 1024

// method returns what is known of a method by its name.
func (c *core) method(name string, clientStream, serverStream bool) *method {
	if m, ok := c.methods.Load(name); ok {
		return m.(*method)
	}
	m := newMethod(name, clientStream, serverStream)
	m.exempt = exempted(name, alwaysExempt) || exempted(name, c.exempt)
	if c.known.Load() >= maxMethods {
		return m
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

// open takes the call's slots, or says why there is none. What it took, close gives back.
func (c *core) open(cl *call) *Error {
	c.calls.Add(1)
	if c.draining.Load() {
		c.closeCall()
		return cl.describe(&Error{Reason: ReasonDraining, Code: c.codes.Draining, RetryAfter: c.pushback.delay(0), Detail: "the server is shutting down"})
	}
	if cl.stream && !c.takeStream() {
		c.closeCall()
		return cl.describe(&Error{Reason: ReasonActiveStreams, Code: c.codes.Overload, RetryAfter: c.pushback.delay(0), Detail: "too many open streams"})
	}
	return nil
}

func (c *core) takeStream() bool {
	for {
		n := c.streams.Load()
		if c.maxStreams > 0 && n >= c.maxStreams {
			return false
		}
		if c.streams.CompareAndSwap(n, n+1) {
			for p := c.peak.Load(); n+1 > p && !c.peak.CompareAndSwap(p, n+1); p = c.peak.Load() {
			}
			return true
		}
	}
}

// enlist makes an admitted call visible.
func (c *core) enlist(cl *call) {
	c.shards[c.next.Add(1)%shards].add(cl)
	if cl.stream {
		c.watch()
	}
}

// close ends the call's bookkeeping; only the first close counts. It reports whether this was it.
func (c *core) close(cl *call, end ending) bool {
	if !cl.over.CompareAndSwap(0, cl.now()+1) {
		return false
	}
	if cl.shard != nil {
		cl.shard.remove(cl, end)
	}
	if cl.stream {
		c.streams.Add(-1)
	}
	c.closeCall()
	return true
}

func (c *core) closeCall() {
	if c.calls.Add(-1) > 0 || !c.draining.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drained != nil && c.calls.Load() == 0 {
		close(c.drained)
		c.drained = nil
	}
}

func (c *core) countRejection(e *Error) { c.rejections.count(e) }

// each calls f for every open call, outside every lock.
func (c *core) each(f func(*call)) {
	var open []*call
	for i := range c.shards {
		open = c.shards[i].list(open)
	}
	for _, cl := range open {
		f(cl)
	}
}
