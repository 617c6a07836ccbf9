package component

import (
	"encoding/json"
	"net/http"
)

// Status is what a component answers at /status, for programs that follow it:
// what the pipeline's progress and summary are made of.
type Status struct {
	ID   string `json:"id"`
	Role Role   `json:"role"`

	InFlight    int64   `json:"in_flight"`     // batches read and not yet handed on or durable
	MaxInFlight int64   `json:"max_in_flight"` // their limit
	Load        float64 `json:"load"`          // of the stage, 0 to 1
	PeakLoad    float64 `json:"peak_load"`     // the highest since the start

	Fraction         float64 `json:"fraction"`          // that this component follows
	ThrottledSeconds float64 `json:"throttled_seconds"` // how long its fraction was below 1
	PacedSeconds     float64 `json:"paced_seconds"`     // how long its sending waited for the fraction

	Connected bool `json:"connected"` // to the control plane

	// Work is the component's own account, by role.
	Work json.RawMessage `json:"work,omitempty"`
}

// Decision is the part of what a control plane answers at /state that the
// pipeline shows.
type Decision struct {
	Fraction    float64            `json:"fraction"`
	Active      bool               `json:"active"`
	Activations int64              `json:"activations"`
	Loads       map[string]float64 `json:"loads"`
}

// statusHandler serves what status returns, as JSON.
func statusHandler(status func() any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.Marshal(status())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(append(body, '\n')) // the client went away
	})
}
