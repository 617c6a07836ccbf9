package interceptors

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/withobsrvr/sluice/flowcontrol"
	"github.com/withobsrvr/sluice/interceptors/internal/payload"
)

// A Gate admits calls and messages. *flowcontrol.Throttler is one; tests use the
// fakes of package flowcontroltest. Its methods are called from many goroutines
// at a time. An error is either the context's, or has a *flowcontrol.Error in
// its chain, which says why and for how long.
//
// A gate that has them is asked for its Load() float64 (1 is full), and for its
// InFlight() and Limit() flowcontrol.Cost, by load reports and by
// [Server.TapHandle]. One without them counts as idle there.
type Gate interface {
	// Acquire waits until c may proceed. The permit is released when it is done.
	Acquire(ctx context.Context, c flowcontrol.Cost) (flowcontrol.Permit, error)
	// Pace waits like Acquire, and holds nothing.
	Pace(ctx context.Context, c flowcontrol.Cost) error
}

var _ Gate = (*flowcontrol.Throttler)(nil)

// gateOf makes a nil pointer in the interface no gate at all: a
// *flowcontrol.Throttler that was never made means the same as none.
func gateOf(g Gate) Gate {
	if v := reflect.ValueOf(g); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil
	}
	return g
}

// gateLoad returns the gate's load where it has one, 0 otherwise.
func gateLoad(g Gate) float64 {
	if l, ok := g.(interface{ Load() float64 }); ok {
		return l.Load()
	}
	return 0
}

// weight is what one message weighs.
type weight struct {
	rows, bytes int64
	expansion   int64
	batch       bool // counts as a message in flight
}

// inFlight is what it counts as while it is handled or sent: a schema or a
// dictionary is nothing.
func (w *weight) inFlight() flowcontrol.Cost {
	if !w.batch {
		return flowcontrol.Cost{}
	}
	return flowcontrol.Cost{Messages: 1, Rows: w.rows, Bytes: w.bytes}
}

// CostOf returns what the interceptors charge a gate for a message: its bytes,
// and for a record batch one message and its rows. A FlightData may be of any
// code generation; any other message is one message. Nothing is decoded, and of a
// FlightData nothing is allocated. The rows are the sender's claim.
func CostOf(m any) flowcontrol.Cost {
	var w weight
	var p payload.Payload
	if fd, ok := m.(payload.FlightData); ok {
		p.Read(fd)
		w.of(&p)
	} else {
		w.bytes, w.batch = payload.Size(m), true
	}
	return w.cost()
}

func (w *weight) of(p *payload.Payload) {
	w.rows, w.bytes, w.batch = p.Rows, p.Bytes, p.Kind == payload.RecordBatch
	if p.Compressed {
		w.expansion = p.Uncompressed - p.Body
	}
}

func (w *weight) cost() flowcontrol.Cost {
	cost := flowcontrol.Cost{Rows: w.rows, Bytes: w.bytes}
	if w.batch {
		cost.Messages = 1
	}
	return cost
}

// weigh reads the message, and checks the guards where the message came from
// the other side.
func (c *core) weigh(cl *call, m any, guarded bool, w *weight) *Error {
	fd, ok := m.(payload.FlightData)
	if !ok {
		w.bytes, w.batch = payload.Size(m), true
		if limit := c.guards.MaxMessageBytes; guarded && limit > 0 && w.bytes > limit {
			return c.messageBytes(cl, w.bytes)
		}
		return nil
	}
	var p payload.Payload
	p.Read(fd)
	if guarded && (p.Bytes > c.harmless || p.Compressed || p.Malformed) {
		if err := c.guard(cl, &p); err != nil {
			return err
		}
	}
	w.of(&p)
	return nil
}

// cost is what the message costs at the gate.
func (c *core) cost(w *weight) flowcontrol.Cost {
	cost := w.cost()
	if c.weighUncompressed {
		cost.Bytes += max(w.expansion, 0)
	}
	return cost
}

// setGuards prepares what most messages are told by: one that is not compressed
// and no larger than this breaks no guard.
func (c *core) setGuards(g Guards) {
	c.guards, c.harmless = g, math.MaxInt64
	for _, limit := range []int64{g.MaxMessageBytes, g.MaxUncompressedBytes} {
		if limit > 0 {
			c.harmless = min(c.harmless, limit)
		}
	}
}

func (c *core) guard(cl *call, p *payload.Payload) *Error {
	g := &c.guards
	needs := p.Uncompressed + min(p.Excess, math.MaxInt64-p.Uncompressed)
	switch {
	case g.MaxMessageBytes > 0 && p.Bytes > g.MaxMessageBytes:
		return c.messageBytes(cl, p.Bytes)
	case g.MaxUncompressedBytes > 0 && needs > g.MaxUncompressedBytes:
		return c.tooLarge(cl, ReasonUncompressedBytes, fmt.Sprintf(
			"a message that takes %d bytes to decode, by its own claims, limit %d", needs, g.MaxUncompressedBytes))
	case p.Malformed:
		return c.tooLarge(cl, ReasonMalformed, "a record batch whose header or compression breaks the format")
	case p.Compressed && g.MaxRatio > 0 && needs > ratioFloor && needs/g.MaxRatio >= max(p.Bytes, 1):
		return c.tooLarge(cl, ReasonRatio, fmt.Sprintf(
			"a message of %d bytes that takes %d to decode, by its own claims, limit %d:1", p.Bytes, needs, g.MaxRatio))
	}
	return nil
}

// acquire waits for room for a message inside an admitted stream. A rejection of
// the gate is not the stream's end: the wait goes on, and HTTP/2 carries it to
// the sender. What ends it is the context, [ServerConfig.MaxMessageWait], and a
// message that can never fit. It returns the time at which the message may go on.
func (c *core) acquire(
	ctx context.Context, cl *call, cost flowcontrol.Cost,
) (permit flowcontrol.Permit, now int64, err error) {
	err = c.persist(ctx, cl, func(ctx context.Context) (err error) {
		permit, err = c.throttler.Acquire(ctx, cost)
		return err
	})
	return permit, cl.now(), err
}

// pace is acquire for a message that is sent: it takes tokens, and holds nothing.
func (c *core) pace(ctx context.Context, cl *call, cost flowcontrol.Cost) (now int64, err error) {
	err = c.persist(ctx, cl, func(ctx context.Context) error { return c.throttler.Pace(ctx, cost) })
	return cl.now(), err
}

// errMessageWait is the cause of the end of a message's wait.
var errMessageWait = errors.New("interceptors: a message waited longer than MaxMessageWait")

// persist asks the gate until it admits. Between two attempts it waits as long as
// the gate says; where the gate does not know, because its queue sent the waiter
// away, it is back soon, and later each time: room may come free at any moment.
func (c *core) persist(stream context.Context, cl *call, ask func(context.Context) error) error {
	ctx := stream
	if c.maxMessageWait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(stream, c.maxMessageWait, errMessageWait)
		defer cancel()
	}
	err := ask(ctx)
	for pause := time.Millisecond; err != nil; pause = min(2*pause, 100*time.Millisecond) {
		e := c.reject(cl, err)
		switch {
		case stream.Err() != nil:
			return context.Cause(stream)
		case ctx.Err() != nil:
			return cl.fail(cl.describe(&Error{
				Reason: ReasonMessageWait, Code: c.codes.Overload, RetryAfter: c.pushback.delay(0), Cause: err,
				Detail: "a message waited longer than the stream may hold it",
			}))
		case e == nil:
			return err
		case e.RetryAfter == Never:
			return cl.fail(e)
		}
		if fe, ok := errors.AsType[*flowcontrol.Error](err); ok && fe.RetryAfter > 0 {
			err = sleep(ctx, min(fe.RetryAfter, time.Second))
		} else {
			err = sleep(ctx, pause)
		}
		if err == nil {
			err = ask(ctx)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reject makes the rejection that the throttler's error stands for. It returns
// nil when err is the caller's own end: a context's error is no rejection.
func (c *core) reject(cl *call, err error) *Error {
	fe, ok := errors.AsType[*flowcontrol.Error](err)
	if !ok {
		return nil
	}
	e := &Error{Reason: Reason(fe.Reason.String()), Cause: err, Code: c.codes.Overload}
	switch {
	case fe.RetryAfter < 0:
		e.Code, e.RetryAfter = c.codes.TooLarge, Never
	case fe.Reason == flowcontrol.ReasonShare, fe.Reason == flowcontrol.ReasonTenantRate:
		e.Code, e.RetryAfter = c.codes.Quota, c.pushback.delay(fe.RetryAfter)
	default:
		e.RetryAfter = c.pushback.delay(fe.RetryAfter)
	}
	return cl.describe(e)
}

func (c *core) messageBytes(cl *call, n int64) *Error {
	return c.tooLarge(cl, ReasonMessageBytes, fmt.Sprintf("a message of %d bytes, limit %d", n, c.guards.MaxMessageBytes))
}

func (c *core) tooLarge(cl *call, reason Reason, detail string) *Error {
	return cl.describe(&Error{Reason: reason, Code: c.codes.TooLarge, RetryAfter: Never, Detail: detail})
}
