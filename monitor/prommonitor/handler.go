package prommonitor

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/withobsrvr/sluice/monitor"
)

// HandlerConfig configures a metrics handler. The zero value serves a registry
// of its own, with the Go runtime's and the process's metrics beside the
// monitor's.
type HandlerConfig struct {
	// Registry is where the collector is registered and what is served. Nil: a
	// new one that also has the collectors of the Go runtime and the process.
	Registry *prometheus.Registry
}

// maxScrapes bounds the scrapes that are served at once; further ones get 503.
const maxScrapes = 8

// NewHandler registers a collector of m and returns a handler that serves the
// registry in the text format, and as OpenMetrics to scrapers that ask for it. Pass it
// to [monitor.Monitor.Handler].
func NewHandler(m *monitor.Monitor, cfg HandlerConfig) (http.Handler, error) {
	registry := cfg.Registry
	if registry == nil {
		registry = prometheus.NewRegistry()
		for _, c := range []prometheus.Collector{
			collectors.NewGoCollector(),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		} {
			if err := registry.Register(c); err != nil {
				return nil, err
			}
		}
	}
	if err := registry.Register(NewCollector(m)); err != nil {
		return nil, err
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes,
	}), nil
}
