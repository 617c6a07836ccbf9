// Package backpressure decides, for a whole pipeline, which fraction of the
// offered work its entries let through. It takes load reports of the services
// in, and gives one signal out. It moves no data, opens no connection and knows
// no throttler: anything with SetFraction follows it. Package controlplane
// carries the same decision across processes.
//
//	reports                    ┌───────────────┐   SetFraction
//	in flight / limit ───────▶ │   Controller  │ ─────────────▶ throttlers
//	of each service            │ 0.80 on       │   Signal
//	                           │ 0.60 off      │ ─────────────▶ subscribers
//	                           └───────────────┘
//
// A path is active when the load that drives it reaches the activation
// threshold, and stays so until its policy releases it at or below the recovery
// threshold. While it is active the policy computes the fraction: [Gradual], the
// default, steers the load to a target; [Step] halves and restores.
//
// A fraction alone protects nothing: it shapes what enters, while every stage
// keeps a hard limit of its own.
//
// # Concurrency
//
// All methods of a [Controller] and a [Subscription] may be called from any
// goroutine. Setters and subscribers are called outside every lock, and may
// call back. One lock guards a controller; what only reads shares it, and works
// out nothing under it.
//
// # Errors
//
// Every error is an [*Error] and an [ErrRejected]; a rejected call changed
// nothing, and was counted by [Reason].
//
// # Testing
//
// The controller reads the time through package time alone, so that
// testing/synctest governs it. Package backpressuretest has a scripted
// controller and a recorder of signals.
package backpressure
