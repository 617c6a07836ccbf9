// Package monitor knows what is happening in a pipeline. It watches throttlers,
// pools, interceptors and the pipeline's decision, and makes one [Snapshot] of
// them; the metrics, the alerts and the health report all read that, so they
// agree with each other. It decides nothing and moves no data, and it calls
// nothing remote.
//
//	flowcontrol  connpool  interceptors  backpressure  your Source
//	     └──────────┴───────────┴─────────────┴───────────┘
//	                     Snapshot (immutable)
//	     ┌──────────┬───────────┬─────────────┬───────────┐
//	 prommonitor otelmonitor   alert  ◀──── health    your OnTick
//
// One table ([Families]) says which metrics there are and how to read them from
// a snapshot. Package prommonitor and package otelmonitor are its two faces;
// this package knows neither library.
//
// A monitor works as soon as it is made: what is asked for is computed then,
// and shared for [Config.Freshness]. [Monitor.Start] adds what needs time: the
// history, and what follows the monitor with [Monitor.OnTick], such as the
// engine of package alert. Package health has the report, the probes and the
// HTTP endpoints.
//
// # Concurrency
//
// All methods of a Monitor may be called from any goroutine. A snapshot is
// never changed. Sources are called one at a time, from the goroutine that asks
// for the snapshot; what follows the monitor from the monitor's own.
//
// # Errors
//
// [New] joins all problems of a configuration; each is an [Error] and an
// [ErrConfig]. After that nothing fails: what is not known is left out.
//
// # Testing
//
// Time is read through package time alone, so testing/synctest governs it.
// Package monitortest has scripted sources and a recorder of alerts.
package monitor
