// Package health says how a pipeline is and what to do about it, from the
// snapshots of a monitor: a [Report] in four dimensions with its bottleneck and
// recommendations, probes and a health document over HTTP, and the status of a
// gRPC health service. It measures nothing itself, and it changes nothing.
//
//	h, err := health.New(m, health.Config{ServiceID: "archive"})
//	mux.Handle("/", h.Handler(metrics))
//
// Three questions have three answers. "Should it be restarted?" is /livez, which
// depends on nothing. "Should it get traffic?" is /readyz, the conditions of
// [Health.AddCheck]. "Is it well?" is /health and /report. Load and backpressure
// never fail the first two: they would take a loaded process out of service.
//
// The bottleneck is the one that package topology computes for the live page.
// A service that the bottleneck holds up gets no advice about its load.
//
// # Concurrency
//
// All methods of a [Health] may be called from any goroutine. Readiness checks
// run in the goroutine of the request, or in the monitor's for
// [Health.ServeGRPC], one after another, for at most two seconds each.
//
// # Errors
//
// [New] joins all problems of a configuration; each is a [monitor.Error] and a
// [monitor.ErrConfig]. After that nothing fails: what is not known is left out,
// and the JSON of a report holds no NaN.
//
// # Testing
//
// Let the monitor watch package monitortest's scripts. Time is read through
// package time alone, so testing/synctest governs it.
package health
