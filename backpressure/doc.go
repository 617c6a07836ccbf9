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
// keeps a hard limit of its own. Between two reports that limit is what stands.
//
// # Paths
//
// Services that name their upstreams are decided path by path: a path is what some
// entry leads to, and an entry admits what its path does. Services that no edge
// connects have nothing to do with one another. Without any upstream the whole is one
// path, as in the handoff that this package implements.
//
// # Load
//
// The load of a service is in flight / limit, taken from the moment a unit is read to
// the moment it is handed on or durable. So a slow sink shows as a full one: it reads
// ahead up to its limit, and HTTP/2 holds the rest. By default the fullest service of
// a path drives it. The mean over all services ([Aggregate]) hides one full sink
// behind ten idle stages.
//
// # What is not observed
//
// A report is worth twice the time between its service's reports. After that its load
// is neither released nor integrated, until the service reports again, is removed, or
// expires. A decider that starts anew listens for Config.Learn before it decides.
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
