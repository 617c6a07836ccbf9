// Package controlplane has the nouns that a control plane and its components
// share: what registers ([Component]), what is known of it ([Status]), how it
// is selected ([Filter]), the keys of heartbeat metrics, and the pipeline id
// that travels with calls.
//
// Its two ends are packages of their own, so that a component links no more
// than it runs:
//
//	agent.Agent ──register, beats, load──▶ server.Server ──▶ backpressure.Controller
//	    ▲                                                          │
//	    └────────────── fraction, at every change ◀────────────────┘
//
// The server speaks the two flowctl services, flowctl.ControlPlane and
// flowctl.v1.ControlPlaneService, so that existing tools and components work
// with it unchanged, and a third of its own: one stream for each agent, load up
// and signals down. Against a control plane that has only the first two, an
// agent reads the other components' metrics and decides by itself.
//
// # Concurrency
//
// The types here are values: they are not changed after they were given away.
// The functions may be called from any goroutine.
//
// # Errors
//
// A server answers what it rejects with INVALID_ARGUMENT, NOT_FOUND,
// RESOURCE_EXHAUSTED, PERMISSION_DENIED or ABORTED. A rejected request changed
// nothing.
//
// # Testing
//
// Package backpressuretest runs a whole control plane over bufconn, inside
// testing/synctest too.
package controlplane
