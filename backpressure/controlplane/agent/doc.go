// Package agent is the component's end of a control plane: an [Agent] registers
// one component, reports its load, and sets the component's throttlers to the
// fraction that the control plane decides. [Discover] and [Components] ask a
// control plane without joining it.
//
// The component works with or without a control plane. While none answers, the
// agent goes on at the last fraction, then at the safe one, and never above what
// the component's own load allows. A control plane that has only the stock
// flowctl services cannot push a decision: the agent then reads the other
// components' metrics and runs the same decision by itself. [Agent.Mode] says which
// of the three it is; see [backpressure.AgentMode].
//
// An agent costs its component one connection, three goroutines of its own, and a
// call of Config.Report every 100 ms. It never delays the component's work: targets
// are set beside it, and nothing here waits in a handler.
//
// # Concurrency
//
// All methods of an [Agent] may be called from any goroutine. Targets are set
// by one goroutine at a time, the newest fraction last, outside every lock that
// another method takes.
//
// # Errors
//
// Calls return gRPC statuses as the control plane gave them. [Agent.Run] retries
// for as long as its context lives, and returns nil.
//
// # Testing
//
// Package backpressuretest runs agents against a control plane in memory.
package agent
