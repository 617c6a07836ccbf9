// Package monitor says what is happening in a pipeline, why, and what to do. It
// watches throttlers, pools, interceptors and the pipeline's decision, and makes
// one snapshot of them; the metrics, the health report, the alerts and the
// health endpoints all read that. It decides nothing and moves no data, and it
// calls nothing remote.
//
//	flowcontrol  connpool  interceptors  backpressure  your Source
//	     └──────────┴───────────┴─────────────┴───────────┘
//	                     Snapshot (immutable)
//	     ┌──────────┬───────────┬─────────────┬───────────┐
//	 prommonitor otelmonitor  Report       alerts    /health …
//
// One table ([Families]) says which metrics there are and how to read them from
// a snapshot. Package prommonitor and package otelmonitor are its two faces;
// this package knows neither library.
//
// A monitor works as soon as it is made: what is asked for is computed then,
// and shared for [Config.Freshness]. [Monitor.Start] adds what needs time: the
// history, the alerts and the triggers for scaling out.
//
// # Concurrency
//
// All methods of a Monitor may be called from any goroutine. A snapshot is
// never changed. Sources are called one at a time, from the goroutine that asks
// for the snapshot; subscribers of alerts from the monitor's own.
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
