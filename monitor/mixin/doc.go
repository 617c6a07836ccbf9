// Package mixin makes what Prometheus, Alertmanager and Grafana need out of the
// monitor's own tables: alerting rules, inhibition rules and dashboards. The
// files beside it are its output for the default rules; copy them, or call the
// functions with rules of your own.
//
//	alerts.yaml         rules for Prometheus
//	alertmanager.yaml   inhibit_rules for Alertmanager's configuration
//	dashboards/*.json   dashboards for Grafana: import, and choose a data source
//
// # Concurrency
//
// The functions share nothing.
//
// # Errors
//
// None: the tables were checked when the monitor was made.
//
// # Testing
//
// A test proves that the files are the functions' output, that promtool accepts
// every rule and query, and that every metric is a family of the table.
package mixin

//go:generate go run ./internal/generate
