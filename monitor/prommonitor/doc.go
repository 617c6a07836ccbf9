// Package prommonitor is the Prometheus face of package monitor: a collector
// over the monitor's family table, for the user's own registry, and a handler
// that serves it. It keeps no values of its own; every scrape reads a snapshot.
// It never touches the default registry.
//
// Choose one face for one registry: with the OpenTelemetry exporter and this
// collector on the same one, every series exists twice.
//
// # Concurrency
//
// A Collector may be collected by any number of goroutines at once.
//
// # Errors
//
// Two monitors on one registry are rejected by Register with an error; give each
// labels of its own with prometheus.WrapRegistererWith. [NewHandler] returns the
// same error.
//
// # Testing
//
// Use a prometheus.NewPedanticRegistry and monitortest's scripted snapshots.
package prommonitor
