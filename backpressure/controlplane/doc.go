// Package controlplane carries the pipeline's decision across processes: a
// [Server] that keeps a registry of components and decides over their reports,
// and an [Agent] that speaks for one component.
//
//	component ──register, beats, load──▶ Server ──▶ backpressure.Controller
//	    ▲                                                   │
//	    └──────────── fraction, at every change ◀───────────┘
//
// The server speaks the two flowctl services, flowctl.ControlPlane and
// flowctl.v1.ControlPlaneService, so that existing tools and components work
// with it unchanged, and a third of its own: one stream each agent, load up and
// signals down. Against a control plane that has only the first two, an agent
// reads the other components' metrics and decides by itself.
//
// It keeps no history and no state on disk: after a restart the server learns
// from the agents' reports, which carry the fractions in force, before it
// decides.
//
// # Concurrency
//
// All methods of [Server] and [Agent] may be called from any goroutine. Targets
// are told the fraction by one goroutine at a time, the newest last.
//
// # Errors
//
// A refusal is an [*Error], which is [ErrRefused] by errors.Is; on the wire it
// is INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED or PERMISSION_DENIED. A
// refused request changed nothing.
//
// # Testing
//
// Server and agent run over bufconn inside testing/synctest.
package controlplane
