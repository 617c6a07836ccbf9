// Package otelmonitor is the OpenTelemetry face of package monitor: one
// callback over the monitor's family table, on the user's own MeterProvider. It
// uses the OpenTelemetry API alone; which SDK and exporter run is the user's
// choice. It never touches the global provider.
//
// The standard translation makes the Prometheus names of the OpenTelemetry
// ones, so a pipeline that pushes by OTLP and one that is scraped have the same
// series. Three differences: the deprecated alias is not exported; OpenTelemetry
// has no asynchronous histogram, so of the histograms only those that the
// monitor observes itself exist here (flowctl.service.discovery.duration); and
// an SDK folds by itself beyond 2000 label sets an instrument, which the
// monitor's own bounds stay below.
//
// # Concurrency
//
// A Registration may be closed by any goroutine, at any time, but not from
// within a callback of the same meter provider. The callback holds no lock, and
// waits at most 100 ms for a fresh snapshot: an SDK calls it with its own lock
// held, which a source might want.
//
// # Errors
//
// [Register] returns what the meter provider refuses, joined.
//
// # Testing
//
// Use the SDK's ManualReader with a monitor that watches monitortest's scripted
// snapshots.
package otelmonitor
