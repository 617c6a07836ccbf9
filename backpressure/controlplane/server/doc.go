// Package server is a control plane: a [Server] keeps a registry of components,
// decides over their reports with a [backpressure.Controller] for each pipeline, and
// sends each component's agent the fraction to admit. It serves on any gRPC server.
//
//	          ┌ registry ┐      ┌ pipelines ───────────────────────────┐
//	beats ───▶│ by id    │─────▶│ ""     controller ──▶ its sessions   │──▶ signals
//	          └──────────┘      │ "a"    controller ──▶ its sessions   │
//	                            └──────────────────────────────────────┘
//
// Pipelines share the registry, and nothing of the decision: an overload, a limit or
// a setting of one moves no other. Components that register without a pipeline id are
// one pipeline, "".
//
// Its state is soft. After a restart it learns from the agents' reports, which
// carry the fractions in force, for one interval before it decides. What nothing
// brings back, registrations of stock components and changed settings, it keeps in
// Config.Folder, if that is set.
//
// # Concurrency
//
// All methods of a [Server] may be called from any goroutine. One lock guards
// the registry and is held for a copy at most, never while something is sent,
// drawn or sorted. Each agent's stream has two goroutines: gRPC's, which
// receives, and one that sends. The stream's handler waits for the sender, and
// [Server.Close] waits for the server's own.
//
// # Errors
//
// [New] joins everything that is wrong with its Config. What a caller sends and
// the server rejects becomes a gRPC status, is counted by [Reason], and changes
// nothing.
//
// # Testing
//
// Package backpressuretest runs a server in memory, inside testing/synctest too.
package server
