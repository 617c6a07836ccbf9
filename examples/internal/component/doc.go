// Package component carries a program of the pipeline: it reads the common
// environment, listens, serves gRPC behind the interceptors and HTTP with
// metrics and health, keeps pools of connections to other components, speaks to
// the control plane, and ends in order. What the program does is its Service.
//
//	             ┌── HTTP: /metrics /livez /readyz /health /status
//	upstream ──▶ pool + interceptors ──▶ Stage ──▶ the service's own work
//	                                                     │
//	                 readers ◀── Gate + interceptors ◀───┘
//
// The Stage is what the component reports as its load: it counts what was read
// and not yet handed on. The Gate paces what the server sends; the control
// plane's fraction sets it at the source.
//
// # Concurrency
//
// Open, Serve and Close belong to one goroutine. Everything else may be called
// from anywhere.
//
// # Errors
//
// A mistake in the environment is a [UsageError] that joins one [EnvError] for
// each variable; programs exit with status 2.
//
// # Testing
//
// A [Process] names everything that a component takes from its surroundings, so
// that a test can be its parent. The tests of package runner do that.
package component
