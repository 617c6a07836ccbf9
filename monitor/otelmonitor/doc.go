// Package otelmonitor is the OpenTelemetry face of package monitor: one
// callback over the monitor's family table, on the user's own MeterProvider. It
// uses the OpenTelemetry API alone; which SDK and exporter run is the user's
// choice. It never touches the global provider.
//
// The standard translation makes the Prometheus names of the OpenTelemetry
// ones, so a pipeline that pushes by OTLP and one that is scraped have the same
// series. Two differences: the deprecated alias is not exported, and an SDK folds
// by itself beyond 2000 label sets an instrument. The monitor's own bounds stay
// below that, but for buckets: with eleven of them a distribution reaches it at
// 182 services or pools in one process.
//
// OpenTelemetry has no asynchronous histogram. The one that the monitor observes
// itself (flowctl.service.discovery.duration) is a true one. The two whose counts
// it reads, how long the admitted and the connected waited, are three sums each:
// .bucket with cumulative counts by the attribute le, .sum and .count. In
// Prometheus they are the series that a histogram has, and histogram_quantile
// works on them; they are no monotonic sums, whose names would end in _total.
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
// [Register] returns what the meter provider rejects, joined.
//
// # Testing
//
// Use the SDK's ManualReader with a monitor that watches monitortest's scripted
// snapshots.
package otelmonitor
