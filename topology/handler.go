package topology

import "net/http"

// HandlerConfig configures the live page. A zero field is its default.
type HandlerConfig struct{}

// Handler serves the graph.
func Handler(src Source, _ HandlerConfig) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = src.Topology().WriteJSON(w)
	})
}
