// Package flowcontrol is the gate that every unit of work passes: a limit on
// what is in flight, a token bucket, and the fraction that the rest of the
// pipeline asks for, in one decision.
//
// A unit of work has a [Cost] in messages, rows and bytes. A [Throttler]
// admits it when every gate agrees, and hands out a [Permit]:
//
//	          ┌──────────┐   ┌─────────┐   ┌───────────┐
//	Cost ───▶ │ fraction │──▶│ tokens  │──▶│ in flight │──▶ Permit ─▶ work ─▶ Release
//	          │  0 .. 1  │   │ per sec │   │   limit   │
//	          └────▲─────┘   └─────────┘   └─────▲─────┘
//	         SetFraction:                  fixed, or learned
//	         the pipeline shapes           from service times: it protects
//
// [Throttler.TryAcquire] never blocks: it admits or rejects, and a fraction f
// sheds 1-f of the calls. [Throttler.Acquire] waits, and a fraction f slows
// saturated work to f times its unthrottled throughput; most streams want it,
// because a wait travels upstream by HTTP/2 flow control and loses nothing.
// [Throttler.Pace] waits for fraction and tokens, and holds nothing.
// [Throttler.Charge] books work whose size became known only after it was done.
//
// The in-flight limit stands under every fraction and in every enforcing mode:
// a fraction shapes the load, the limit protects the process. Set
// [AdaptiveConfig] when the right limit is not known; it is learned from the
// service time of each permit, so it works on streams that never end.
//
// The package does not know gRPC, does not count across processes, keeps no
// goroutine, and never drops work that it admitted.
//
// # Concurrency
//
// All methods of [Throttler] and [Permit] are safe for concurrent use. One lock
// guards a gate; no method holds it while it blocks or runs the caller's code,
// of which there is one piece, [Config].KeyRateOf. Waiting costs no goroutine
// beyond the caller's own.
//
// # Errors
//
// A rejection is an [*Error] and matches [ErrRejected] with errors.Is; it carries
// the reason, the gate, the limit and what was in flight, and, where it is
// known, exactly when to come back. A call that ended with its context returns
// the context's error. A rejected or cancelled call changes nothing: no token
// is spent, nothing stays in flight. [New] and [Throttler.Reconfigure] return
// one error that joins every problem of a [Config].
//
// # Testing
//
// Package flowcontroltest has fakes (AlwaysAdmits, AlwaysRejects, Scripted, a
// Recorder) and a conformance suite for other limiters. Time is the standard
// library's, so a Throttler made inside a testing/synctest bubble runs in
// virtual time, and [Config].Seed makes every shedding decision repeatable.
package flowcontrol
