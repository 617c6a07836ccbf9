// Package prometheus runs Prometheus and Alertmanager for real: they scrape the
// reference pipeline under a slow sink, with the rules and inhibitions of
// monitor/mixin, and an alert goes all its way to a receiver and back. It has
// tests only.
package prometheus
